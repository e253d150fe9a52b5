"""Binaries of every system: their kind, the libraries that they load, and the packages that cargo-auditable recorded in them."""

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
    [commands] = struct.unpack_from("<I", content, 16)
    at = 32
    for _ in range(commands):
        command, size = struct.unpack_from("<II", content, at)
        if command == 0x19:  # LC_SEGMENT_64
            [count] = struct.unpack_from("<I", content, at + 64)
            for number in range(count):
                name, _, _, length, offset = struct.unpack_from("<16s16sQQI", content, at + 72 + 80 * number)
                yield name.rstrip(b"\0"), offset, length
        at += size


SECTIONS = {"linux": elf_sections, "freebsd": elf_sections, "windows": pe_sections, "macos": mach_o_sections}


def auditable(content):
    """Returns what cargo-auditable recorded in a binary. `None`: it has no such section."""
    for name, offset, length in SECTIONS[kind(content)[0]](content):
        if name.decode().lstrip("._") == AUDIT_SECTION:
            return json.loads(zlib.decompressobj().decompress(content[offset:offset + length]))
    return None


def windows_libraries(path):
    """Returns the names of the DLLs that a Windows program loads when it starts."""
    objdump = shutil.which("objdump")
    if objdump is None:
        raise common.Failure("needs objdump: apt-get install binutils")
    return {name.lower() for name in re.findall(r"DLL Name: (\S+)", common.output(objdump, "--private-headers", path))}
