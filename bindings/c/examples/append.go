// Appends a line to each of several files while it holds the locks of all of them, from Go by cgo.
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

// With runs work while it holds the locks of all targets, at least one. It gets their fences, in the order of the targets.
func With(targets []string, timeout time.Duration, work func(fences []uint64) error) error {
	// A lock knows which thread holds it, so this goroutine keeps its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var err *C.tenure_error
	locks := make([]*C.tenure_lock, len(targets))
	for i, target := range targets {
		path := C.CString(target)
		defer C.free(unsafe.Pointer(path))
		if code := C.tenure_open(path, nil, &locks[i], &err); code != C.TENURE_OK {
			return failure(code, err)
		}
		defer C.tenure_lock_free(locks[i])
	}
	guards := make([]*C.tenure_guard, len(targets))
	count := C.size_t(len(targets))
	code := C.tenure_acquire_all(&locks[0], count, C.int64_t(timeout.Milliseconds()), &guards[0], &err)
	if code != C.TENURE_OK {
		return failure(code, err)
	}
	fences := make([]uint64, len(targets))
	for i, guard := range guards {
		fences[i] = uint64(C.tenure_fence(guard))
	}
	failed := work(fences)
	for _, guard := range guards {
		if code := C.tenure_release(guard, &err); code != C.TENURE_OK {
			if lost := failure(code, err); failed == nil {
				failed = lost
			}
		}
	}
	return failed
}

func appendLine(path, line string) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = fmt.Fprintln(file, line)
	return err
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: append LINE FILE..")
		os.Exit(64)
	}
	line, files := os.Args[1], os.Args[2:]
	err := With(files, 10*time.Second, func([]uint64) error {
		for _, file := range files {
			if err := appendLine(file, line); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "append:", err)
		if _, busy := err.(Busy); busy {
			os.Exit(75)
		}
		os.Exit(74)
	}
}
