/* Where native programs are, and how the image's own programs are recognized: by the build ID of their ELF files (64 bit,
 * little-endian). */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef TOOLS /* tests have them elsewhere */
#define TOOLS "/.chainbuild-native"
#endif
#define LOADER TOOLS "/lib/loader"

static ssize_t first_bytes(const char *path, unsigned char *head, size_t size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return -1;
    ssize_t count = pread(file, head, size, 0);
    close(file);
    return count;
}

/* Return whether a part of a file of `whole` bytes is inside it, whatever the numbers are. */
static int within(Elf64_Off start, Elf64_Xword size, size_t whole) { return start <= whole && size <= whole - start; }

/* Write the build ID in the first bytes of a file in hexadecimal; nothing if there is none. */
static void build_id_in(const unsigned char *head, size_t size, char id[128])
{
    Elf64_Ehdr elf;
    id[0] = 0;
    if (size < sizeof elf || memcmp(head, ELFMAG, SELFMAG) || head[EI_CLASS] != ELFCLASS64) return;
    memcpy(&elf, head, sizeof elf);
    for (int i = 0; i < elf.e_phnum; i++) {
        Elf64_Phdr part;
        if (!within(elf.e_phoff, (Elf64_Xword)i * elf.e_phentsize + sizeof part, size)) return;
        memcpy(&part, head + elf.e_phoff + (size_t)i * elf.e_phentsize, sizeof part);
        if (part.p_type != PT_NOTE || part.p_offset > size) continue;
        size_t rest = size - part.p_offset, end = part.p_offset + (part.p_filesz < rest ? part.p_filesz : rest);
        for (size_t note = part.p_offset; note + sizeof(Elf64_Nhdr) <= end;) {
            Elf64_Nhdr header;
            memcpy(&header, head + note, sizeof header);
            size_t data = note + sizeof header + (((size_t)header.n_namesz + 3) & ~(size_t)3);
            if (header.n_type == NT_GNU_BUILD_ID && header.n_namesz == 4 && header.n_descsz <= 60
                && data + header.n_descsz <= end) {
                for (unsigned k = 0; k < header.n_descsz; k++) sprintf(id + 2 * k, "%02x", head[data + k]);
                return;
            }
            note = data + (((size_t)header.n_descsz + 3) & ~(size_t)3);
        }
    }
}
