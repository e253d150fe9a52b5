/* The one function of bcryptprimitives.dll that Rust's standard library takes its random numbers from. Wine 8 has no such
   DLL, and a Rust program does not start without it. scripts/wine compiles this file. */
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{
    while (length > 0) {
        ULONG part = length > MAXLONG ? MAXLONG : (ULONG)length;
        if (!RtlGenRandom(data, part))
            return FALSE;
        data += part;
        length -= part;
    }
    return TRUE;
}
