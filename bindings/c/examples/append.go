// Appends a line to a file under its lock, from Go by cgo.
package main

/*
#cgo pkg-config: tenure
#include <stdlib.h>
#include <tenure.h>
*/
import "C"

import (
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"
)

// Busy is the error of an acquire whose timeout has passed.
type Busy struct{ message string }

func (busy Busy) Error() string { return busy.message }

func failure(code C.tenure_code, err *C.tenure_error) error {
	defer C.tenure_error_free(err)
	message := C.GoString(C.tenure_error_message(err))
	if code == C.TENURE_BUSY {
		return Busy{message}
	}
	return fmt.Errorf("%s", message)
}

// With runs work while it holds the lock of target.
func With(target string, timeout time.Duration, work func(fence uint64) error) error {
	// The lock knows which thread holds it, so this goroutine keeps its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	path := C.CString(target)
	defer C.free(unsafe.Pointer(path))
	var lock *C.tenure_lock
	var guard *C.tenure_guard
	var err *C.tenure_error
	if code := C.tenure_open(path, nil, &lock, &err); code != C.TENURE_OK {
		return failure(code, err)
	}
	defer C.tenure_lock_free(lock)
	if code := C.tenure_acquire(lock, C.int64_t(timeout.Milliseconds()), &guard, &err); code != C.TENURE_OK {
		return failure(code, err)
	}
	failed := work(uint64(C.tenure_fence(guard)))
	if code := C.tenure_release(guard, &err); code != C.TENURE_OK && failed == nil {
		return failure(code, err)
	}
	return failed
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: append FILE LINE")
		os.Exit(64)
	}
	err := With(os.Args[1], 10*time.Second, func(uint64) error {
		file, err := os.OpenFile(os.Args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = fmt.Fprintln(file, os.Args[2])
		return err
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "append:", err)
		if _, busy := err.(Busy); busy {
			os.Exit(75)
		}
		os.Exit(74)
	}
}
