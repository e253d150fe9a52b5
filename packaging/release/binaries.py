"""Binaries of every system: their kind, the libraries that they load, and the packages that cargo-auditable recorded in them."""

import hashlib
import json
import re
import shutil
import struct
import zlib

from . import common

ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
PE_MACHINES = {0x8664: "x86_64"}
MACH_O_MACHINES = {0x01000007: "x86_64", 0x0100000C: "aarch64"}
# FreeBSD marks its programs by a note (elf(5)); the byte for the system may be that of System V.
FREEBSD_NOTE = b"\x08\0\0\0\x04\0\0\0\x01\0\0\0FreeBSD\0"
AUDIT_SECTION = "dep-v0"


def kind(content):
    """Returns the family of systems and the machine of a binary."""
    if content[:4] == b"\x7fELF":
        [machine] = struct.unpack_from("<H", content, 18)
        return ("freebsd" if FREEBSD_NOTE in content[:4096] else "linux"), ELF_MACHINES.get(machine)
    if content[:2] == b"MZ":
        [machine] = struct.unpack_from("<H", content, pe_header(content) + 4)
        return "windows", PE_MACHINES.get(machine)
    if content[:4] == b"\xcf\xfa\xed\xfe":
        [machine] = struct.unpack_from("<I", content, 4)
        return "macos", MACH_O_MACHINES.get(machine)
    raise common.Failure("neither ELF, nor PE, nor Mach-O")


def pe_header(content):
    return struct.unpack_from("<I", content, 0x3C)[0]


def elf_sections(content):
    """Yields the name, the offset and the size of each section. ELF is of 64 bits and little-endian here."""
    [table] = struct.unpack_from("<Q", content, 0x28)
    size, count, names = struct.unpack_from("<HHH", content, 0x3A)
    entries = [struct.unpack_from("<IIQQQQ", content, table + size * number) for number in range(count)]
    for name, _, _, _, offset, length in entries:
        start = entries[names][4] + name
        yield content[start:content.index(b"\0", start)], offset, length


def pe_sections(content):
    header = pe_header(content)
    [count] = struct.unpack_from("<H", content, header + 6)
    [optional] = struct.unpack_from("<H", content, header + 20)
    for number in range(count):
        name, length, _, stored, offset = struct.unpack_from("<8sIIII", content, header + 24 + optional + 40 * number)
        yield name.rstrip(b"\0"), offset, min(length, stored)


def mach_o_sections(content):
    for command, body in load_commands(content):
        if command == 0x19:  # LC_SEGMENT_64
            [count] = struct.unpack_from("<I", body, 64)
            for number in range(count):
                name, _, _, length, offset = struct.unpack_from("<16s16sQQI", body, 72 + 80 * number)
                yield name.rstrip(b"\0"), offset, length


SECTIONS = {"linux": elf_sections, "freebsd": elf_sections, "windows": pe_sections, "macos": mach_o_sections}


def auditable(content):
    """Returns what cargo-auditable recorded in a binary. `None`: it has no such section."""
    for name, offset, length in SECTIONS[kind(content)[0]](content):
        if name.decode().lstrip("._") == AUDIT_SECTION:
            return json.loads(zlib.decompressobj().decompress(content[offset:offset + length]))
    return None


def slices(content):
    """Returns the binaries in a file: those of a universal one of macOS, or the file itself."""
    magic, count = struct.unpack_from(">II", content)
    if magic != 0xCAFEBABE:
        return [content]
    entries = [struct.unpack_from(">IIIII", content, 8 + 20 * number) for number in range(count)]
    return [content[offset:offset + size] for _, _, offset, size, _ in entries]


def load_commands(content):
    """Yields the number and the bytes of each load command of Mach-O."""
    [count] = struct.unpack_from("<I", content, 16)
    at = 32
    for _ in range(count):
        command, size = struct.unpack_from("<II", content, at)
        yield command, content[at:at + size]
        at += size


def macos_libraries(content):
    """Returns the paths of the libraries that Mach-O loads when it starts."""
    paths = set()
    for command, body in load_commands(content):
        if command in (0x0C, 0x80000018, 0x8000001F):  # LC_LOAD_DYLIB, a weak one, a re-exported one
            [at] = struct.unpack_from("<I", body, 8)
            paths.add(body[at:].split(b"\0")[0].decode())
    return paths


def macos_version(content):
    """Returns the oldest macOS on which Mach-O starts."""
    for command, body in load_commands(content):
        if command == 0x32:  # LC_BUILD_VERSION
            platform, version = struct.unpack_from("<II", body, 8)
            if platform == 1:
                return version >> 16, version >> 8 & 0xFF
    return None


def signature_is_right(content):
    """Returns whether the signature of Mach-O has the right sum of each page. `None`: it has none, as on x86_64, where a program
    starts without it."""
    for command, body in load_commands(content):
        if command == 0x1D:  # LC_CODE_SIGNATURE
            offset, size = struct.unpack_from("<II", body, 8)
            return has_right_sums(content, content[offset:offset + size])
    return None


def has_right_sums(content, signature):
    magic, _, count = struct.unpack_from(">III", signature)
    if magic != 0xFADE0CC0:
        return False
    for number in range(count):
        [at] = struct.unpack_from(">I", signature, 16 + 8 * number)
        if struct.unpack_from(">I", signature, at) == (0xFADE0C02,):
            # A code directory: its length and version, flags, the places of the sums and of its name, and then what it covers.
            sums, _, _, pages, limit = struct.unpack_from(">IIIII", signature, at + 16)
            size, kind, _, shift = struct.unpack_from(">BBBB", signature, at + 36)
            if (size, kind) != (32, 2):
                return False
            page = 1 << shift
            return all(
                signature[at + sums + 32 * index:at + sums + 32 * (index + 1)]
                == hashlib.sha256(content[page * index:min(page * (index + 1), limit)]).digest()
                for index in range(pages)
            ) and pages * page >= limit
    return False


def windows_libraries(path):
    """Returns the names of the DLLs that a Windows program loads when it starts."""
    objdump = shutil.which("objdump")
    if objdump is None:
        raise common.Failure("needs objdump: apt-get install binutils")
    return {name.lower() for name in re.findall(r"DLL Name: (\S+)", common.output(objdump, "--private-headers", path))}
