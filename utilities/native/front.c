/* Starts a native compiler tool inside an emulated root, or the root's own tool where the native one may not stand in.
 *
 * The image's own compiler driver stays emulated. A specs file makes it start every program by this one (`-wrapper`), with
 * the program's own command line behind it; and collect2 finds this program as its linker (real-ld). With -pipe, the driver
 * does so only with the first program, and finds this one as its assembler (-B). A tool is recognized by its build ID: the file ids/BUILD-ID, if there is one, says what stands in for it:
 *
 *   tool PATH     the native tool
 *   dir PATH      a folder of the own tool's search order (headers or libraries); `c++ PATH`: only without -nostdinc++
 *
 * So compilers that a RUN installs, upgrades or replaces are always used as they are. Whatever is not known to give the same
 * bytes runs emulated. If the folder CHECK exists, both tools run and their outputs are compared; see docs/native.md.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "identify.h"

#ifndef CHECK /* tests have it elsewhere */
#define CHECK "/.chainbuild-native-check"
#endif
#define PLUGIN "/liblto_plugin.so"
#define BY_ITSELF "stdc-predef.h"
#define MOST_DIRS 64

#define LINKER_FOLDER TOOLS "/linker"

enum kind { COMPILER, FORTRAN, LTO, ASSEMBLER, LINKER, COLLECT, OTHER };

struct config {
    char own[PATH_MAX], tool[PATH_MAX];
    char *dirs[MOST_DIRS];
    int only_cxx[MOST_DIRS];
    int count;
};

static int starts(const char *text, const char *start) { return !strncmp(text, start, strlen(start)); }

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Configuration -------------------------------------------------------------------------------------------------------*/

static int read_config(const char *id, struct config *config)
{
    char path[PATH_MAX], line[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/ids/%s", TOOLS, id);
    FILE *file = *id ? fopen(path, "re") : 0;
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *value = strchr(line, ' ');
        if (!value) continue;
        *value++ = 0;
        if (!strcmp(line, "tool")) snprintf(config->tool, sizeof config->tool, "%s", value);
        else if (config->count < MOST_DIRS) {
            config->only_cxx[config->count] = !strcmp(line, "c++");
            config->dirs[config->count++] = strdup(value);
        }
    }
    fclose(file);
    return config->tool[0] != 0;
}

/* Write the build ID of an ELF file in hexadecimal; nothing if it has none. */
static void build_id(const char *path, char id[128])
{
    unsigned char head[4096];
    ssize_t size = first_bytes(path, head, sizeof head);
    build_id_in(head, size > 0 ? (size_t)size : 0, id);
}

/* Find a program in a list of folders, separated by colons, as the compiler does. */
static int find_in(const char *list, const char *name, char found[PATH_MAX])
{
    for (const char *start = list; start && *start;) {
        const char *end = strchrnul(start, ':');
        snprintf(found, PATH_MAX, "%.*s/%s", (int)(end - start), start, name);
        if (!starts(start, TOOLS) && end > start && !access(found, X_OK)) return 1;
        start = *end ? end + 1 : end;
    }
    return 0;
}

/* Return whether this program was started under the name of a tool, by collect2 or in a pipe. */
static int stands_for_tool(const char *program)
{
    return program && (!strcmp(base_of(program), "real-ld") || !strcmp(base_of(program), "as"));
}

/* Find the tool that runs without this program: the linker as collect2 would, an assembler of the pipe as the driver would,
 * others by their path or in PATH. */
static int find_own(const char *name, enum kind kind, struct config *config)
{
    static const char *const linkers[] = { "real-ld", "collect-ld", "ld" };
    if (kind == LINKER) {
        for (int i = 0; i < 3; i++)
            if (find_in(getenv("COMPILER_PATH"), linkers[i], config->own)) return 1;
        return find_in(getenv("PATH"), "ld", config->own);
    }
    if (starts(name, TOOLS)) {
        name = base_of(name);
        if (find_in(getenv("COMPILER_PATH"), name, config->own)) return 1;
    }
    if (strchr(name, '/')) return snprintf(config->own, sizeof config->own, "%s", name) > 0;
    return find_in(getenv("PATH"), name, config->own);
}

/* The decision --------------------------------------------------------------------------------------------------------*/

/* Options under which the native tool might give other bytes, or says other things, than the image's own. */
static int may_be_native(enum kind kind, int argc, char **argv)
{
    static const char *const everywhere[] = { "@", "--sysroot", "--version", "--help", "-fplugin", 0 };
    static const char *const of_compilers[] = {
        "-isysroot", "-iprefix", "-iwithprefix", "-imultilib", "-finput-charset", "-fexec-charset", "-fwide-exec-charset",
        "-frecord-gcc-switches", "--output-pch", "-fdump-", "-ftime-report", "-fmem-report", "-cpp", 0 };
    static const char *const of_linkers[] = { "--verbose", "-dT", "--default-script", "--trace", "-Map", "--print-map", 0 };
    const char *switched = getenv("CHAINBUILD_NATIVE");
    if (switched && !strcmp(switched, "off")) return 0;
    if (kind == COMPILER
        && (getenv("C_INCLUDE_PATH") || getenv("CPLUS_INCLUDE_PATH") || getenv("OBJC_INCLUDE_PATH")
            || getenv("GCC_EXEC_PREFIX")))
        return 0;
    if (kind == LINKER && getenv("LD_PRELOAD")) return 0;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (i > 1 && !strcmp(argv[i - 1], "-o")) continue;
        if (kind == LTO && word[0] == '@') continue; /* names of object files */
        for (const char *const *option = everywhere; *option; option++)
            if (starts(word, *option)) return 0;
        if (!strcmp(word, "-v") || !strcmp(word, "-V") || strstr(word, "=native")) return 0;
        if (kind == COMPILER || kind == FORTRAN || kind == LTO)
            for (const char *const *option = of_compilers; *option; option++)
                if (starts(word, *option)) return 0;
        if (kind != LINKER) continue;
        for (const char *const *option = of_linkers; *option; option++)
            if (starts(word, *option)) return 0;
        if (!strcmp(argv[i - 1], "-plugin")) {
            const char *base = strrchr(word, '/');
            if (!base || strcmp(base, PLUGIN)) return 0;
        }
    }
    return 1;
}

/* Headers that a compiler includes by itself are not included with -nostdinc, so they are asked for by name. Return 1 if
 * that is to be done, 0 if not, -1 if it is not certain that the same file would be found. */
static int includes_by_itself(int argc, char **argv, const struct config *config)
{
    char path[PATH_MAX];
    int hosted = 1, found = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-fhosted") || !strcmp(argv[i], "-fno-freestanding")) return -1;
        if (!strcmp(argv[i], "-ffreestanding") || !strcmp(argv[i], "-fno-hosted") || !strcmp(argv[i], "-fpreprocessed"))
            hosted = 0;
        if (starts(argv[i], "-iquote") || starts(argv[i], "-I")) {
            const char *folder = argv[i] + (argv[i][1] == 'I' ? 2 : 7);
            snprintf(path, sizeof path, "%s/" BY_ITSELF, *folder ? folder : argv[i + 1] ? argv[i + 1] : ".");
            if (!access(path, F_OK)) return -1;
        }
    }
    if (!hosted) return 0;
    if (!access(BY_ITSELF, F_OK)) return -1;
    for (int i = 0; i < config->count && !found; i++) {
        snprintf(path, sizeof path, "%s/" BY_ITSELF, config->dirs[i]);
        found = !access(path, F_OK);
    }
    return found;
}

static int given(int argc, char **argv, const char *word)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], word)) return 1;
    return 0;
}

/* Return the native tool's command line: its own loader and libraries, the arguments given, and the own tool's search
 * order. NULL if it may find other files than the own tool. */
static char **native_arguments(enum kind kind, int argc, char **argv, const struct config *config)
{
    int by_itself = kind == COMPILER && !given(argc, argv, "-nostdinc") ? includes_by_itself(argc, argv, config) : 0;
    if (by_itself < 0) return 0;
    char **words = calloc((size_t)argc + 2 * MOST_DIRS + 10, sizeof *words);
    int count = 0;
    words[count++] = LOADER;
    words[count++] = "--library-path";
    words[count++] = TOOLS "/lib";
    words[count++] = (char *)config->tool;
    if (by_itself) {
        words[count++] = "-include";
        words[count++] = BY_ITSELF;
    }
    for (int i = 1; i < argc; i++) {
        words[count++] = argv[i];
        if (kind == LINKER && !strcmp(argv[i - 1], "-plugin")) words[count - 1] = TOOLS "/lib" PLUGIN;
    }
    if (kind == COMPILER && !given(argc, argv, "-nostdinc")) {
        int without_cxx = given(argc, argv, "-nostdinc++");
        words[count++] = "-nostdinc";
        for (int i = 0; i < config->count; i++) {
            if (config->only_cxx[i] && without_cxx) continue;
            words[count++] = "-isystem";
            words[count++] = config->dirs[i];
        }
    }
    if (kind == LINKER && !given(argc, argv, "-nostdlib")) {
        /* Without it, the folders of the native linker's own script would be searched as well. */
        words[count++] = "-nostdlib";
        for (int i = 0; i < config->count; i++) {
            words[count++] = "-L";
            words[count++] = config->dirs[i];
        }
    }
    return words;
}

/* Running -------------------------------------------------------------------------------------------------------------*/

static int temporary(void)
{
    char path[] = "/tmp/.chainbuild-XXXXXX";
    int file = mkostemp(path, O_CLOEXEC);
    if (file >= 0) unlink(path);
    return file;
}

/* Run a program with these files as stdin, stdout and stderr (-1: as they are). Return its wait status. */
static int run(const char *program, char **argv, int in, int out, int err)
{
    pid_t child = fork();
    if (child == 0) {
        if (in >= 0 && lseek(in, 0, SEEK_SET) == 0) dup2(in, 0);
        if (out >= 0) dup2(out, 1);
        if (err >= 0) dup2(err, 2);
        execv(program, argv);
        _exit(126);
    }
    int status = -1;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return status;
}

static off_t size_of(int file)
{
    struct stat stat;
    return file >= 0 && !fstat(file, &stat) ? stat.st_size : -1;
}

static void pass_on(int from, int to)
{
    char buffer[65536];
    ssize_t count;
    if (from < 0 || lseek(from, 0, SEEK_SET)) return;
    while ((count = read(from, buffer, sizeof buffer)) > 0)
        for (ssize_t done = 0, wrote; done < count; done += wrote)
            if ((wrote = write(to, buffer + done, (size_t)(count - done))) <= 0) return;
}

static int exit_code(int status)
{
    if (WIFSIGNALED(status)) {
        signal(WTERMSIG(status), SIG_DFL);
        raise(WTERMSIG(status));
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* Return a status as a shell would. */
static int shown(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

static int run_own(const struct config *config, char **argv)
{
    if (!strcmp(base_of(argv[0]), "real-ld") || starts(argv[0], TOOLS)) argv[0] = (char *)config->own;
    execv(config->own, argv);
    fprintf(stderr, "%s: %s\n", config->own, strerror(errno));
    return 127;
}

/* Link natively, and let the own linker have the last word whenever the native one fails or says anything. */
static int link_natively(const struct config *config, char **words, char **argv)
{
    int said = temporary();
    if (said < 0) return run_own(config, argv);
    int status = run(LOADER, words, -1, said, said);
    if (WIFEXITED(status) && !WEXITSTATUS(status) && !size_of(said)) return 0;
    return run_own(config, argv);
}

/* Checking ------------------------------------------------------------------------------------------------------------*/

struct bytes {
    unsigned char *data;
    size_t size;
};

static struct bytes content_of(int file)
{
    struct bytes all = { 0, 0 };
    off_t size = size_of(file);
    if (size <= 0) return all;
    void *data = mmap(0, (size_t)size, PROT_READ, MAP_PRIVATE, file, 0);
    if (data != MAP_FAILED) all = (struct bytes){ data, (size_t)size };
    return all;
}

/* Read a header of a section, and its name; NULL if it is not inside the file. */
static const char *section(struct bytes file, const Elf64_Ehdr *elf, unsigned number, Elf64_Shdr *header)
{
    Elf64_Shdr names;
    memcpy(header, file.data + elf->e_shoff + number * sizeof *header, sizeof *header);
    memcpy(&names, file.data + elf->e_shoff + elf->e_shstrndx * sizeof names, sizeof names);
    if (!within(names.sh_offset, names.sh_size, file.size) || header->sh_name >= names.sh_size) return 0;
    const char *name = (const char *)file.data + names.sh_offset + header->sh_name;
    return memchr(name, 0, names.sh_size - header->sh_name) ? name : 0;
}

static int is_elf(struct bytes file, Elf64_Ehdr *elf)
{
    if (file.size < sizeof *elf || memcmp(file.data, ELFMAG, SELFMAG) || file.data[EI_CLASS] != ELFCLASS64) return 0;
    memcpy(elf, file.data, sizeof *elf);
    return elf->e_shoff && within(elf->e_shoff, (Elf64_Xword)elf->e_shnum * sizeof(Elf64_Shdr), file.size)
        && elf->e_shstrndx < elf->e_shnum;
}

/* Return whether two ELF files are the same but for the compiler's package version (.comment) and the build ID, which
 * depends on it. */
static int same_sections(struct bytes one, struct bytes other)
{
    Elf64_Ehdr a, b;
    if (!is_elf(one, &a) || !is_elf(other, &b) || a.e_shnum != b.e_shnum || a.e_type != b.e_type || a.e_flags != b.e_flags
        || a.e_entry != b.e_entry)
        return 0;
    for (unsigned i = 0; i < a.e_shnum; i++) {
        Elf64_Shdr left, right;
        const char *name = section(one, &a, i, &left), *twin = section(other, &b, i, &right);
        if (!name || !twin || strcmp(name, twin) || left.sh_type != right.sh_type || left.sh_flags != right.sh_flags
            || left.sh_addr != right.sh_addr)
            return 0;
        if (!strcmp(name, ".comment") || !strcmp(name, ".note.gnu.build-id") || left.sh_type == SHT_NOBITS) continue;
        if (left.sh_size != right.sh_size || !within(left.sh_offset, left.sh_size, one.size)
            || !within(right.sh_offset, right.sh_size, other.size)
            || memcmp(one.data + left.sh_offset, other.data + right.sh_offset, left.sh_size))
            return 0;
    }
    return 1;
}

/* Return whether two assembler texts are the same but for the line with the compiler's package version. */
static int same_lines(struct bytes one, struct bytes other)
{
    const unsigned char *a = one.data, *b = other.data, *a_end = a + one.size, *b_end = b + other.size;
    while (a < a_end && b < b_end) {
        const unsigned char *a_line = memchr(a, '\n', (size_t)(a_end - a)), *b_line = memchr(b, '\n', (size_t)(b_end - b));
        size_t a_size = (size_t)((a_line ? a_line : a_end) - a), b_size = (size_t)((b_line ? b_line : b_end) - b);
        int versions = a_size > 8 && b_size > 8 && !memcmp(a, "\t.ident\t", 8) && !memcmp(b, "\t.ident\t", 8);
        if (!versions && (a_size != b_size || memcmp(a, b, a_size))) return 0;
        a += a_size + 1;
        b += b_size + 1;
    }
    return a >= a_end && b >= b_end;
}

static int same(int one, int other)
{
    struct bytes a = content_of(one), b = content_of(other);
    if (a.size == b.size && (!a.size || !memcmp(a.data, b.data, a.size))) return 1;
    if (!a.size || !b.size) return 0;
    Elf64_Ehdr elf;
    return is_elf(a, &elf) ? same_sections(a, b) : same_lines(a, b);
}

/* Return the percentage of tool starts to check: the name of the one folder in CHECK. -1: no check was asked for. */
static int percentage(char *log, size_t size)
{
    DIR *folder = opendir(CHECK);
    struct dirent *entry;
    int percent = -1;
    while (folder && (entry = readdir(folder)))
        if (entry->d_name[0] != '.') {
            percent = atoi(entry->d_name);
            snprintf(log, size, "%s/%s/log", CHECK, entry->d_name);
        }
    if (folder) closedir(folder);
    return percent;
}

static int chosen(int percent, int argc, char **argv)
{
    unsigned long hash = 5381;
    char folder[PATH_MAX] = "";
    if (percent >= 100) return 1;
    if (!getcwd(folder, sizeof folder)) folder[0] = 0;
    for (char *c = folder; *c; c++) hash = hash * 33 + (unsigned char)*c;
    for (int i = 1; i < argc; i++)
        if (!strstr(argv[i], "/tmp/"))
            for (char *c = argv[i]; *c; c++) hash = hash * 33 + (unsigned char)*c;
    return (int)(hash % 100) < percent;
}

static void note(const char *log, const char *verdict, const char *name, const char *unit)
{
    char line[PATH_MAX + 64];
    int file = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    int size = snprintf(line, sizeof line, "%s %s %s\n", verdict, name, unit);
    if (file < 0) return;
    if (size >= (int)sizeof line) size = sizeof line - 1; /* cut */
    for (int i = 0; i < size; i++)
        if (line[i] == '\n') line[i] = ' ';
    if (size > 0) line[size - 1] = '\n';
    if (size > 0 && write(file, line, (size_t)size) < 0) {}
    close(file);
}

/* Run a tool and take what it writes: the file named by -o, which is empty before, or else its stdout. */
static int take(const char *program, char **words, int in, const char *output, int err, int *result)
{
    int out = temporary();
    if (output && truncate(output, 0)) {} /* what another tool wrote is not this one's */
    int status = run(program, words, in, output ? -1 : out, err);
    *result = out;
    if (output) {
        int file = open(output, O_RDONLY | O_CLOEXEC);
        if (file >= 0 && out >= 0) pass_on(file, out);
        if (file >= 0) close(file);
    }
    return status;
}

/* Return whether a tool reads stdin: all of it is kept then, for each of the tools. The stdin of others belongs to somebody
 * else (`while read`), or may never end (`yes |`). With -pipe, the driver names no file to the assembler after -o. */
static int reads_stdin(enum kind kind, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "-") && strcmp(argv[i - 1], "-o")) return 1;
    return kind == ASSEMBLER && (argc < 3 || !strcmp(argv[argc - 2], "-o"));
}

static int check(const struct config *config, enum kind kind, const char *name, int argc, char **argv, char **words,
                 const char *log)
{
    const char *output = 0, *unit = "-";
    int in = -1, quiet = open("/dev/null", O_RDWR | O_CLOEXEC), own, native, again;
    struct stat stat;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i - 1], "-o") && strcmp(argv[i], "-")) output = argv[i];
        else if (argv[i][0] != '-') unit = argv[i];
    }
    for (int i = 2; i < argc; i++)
        if (!strcmp(argv[i - 1], "-dumpbase") && *argv[i]) unit = argv[i]; /* the driver's name of the input */
    for (int i = 1; output && kind == LINKER && i < argc; i++)
        if (!strcmp(argv[i], output) && strcmp(argv[i - 1], "-o")) { /* ld -r x.o -o x.o: its input is there only once */
            note(log, "emulated", name, unit);
            return run_own(config, argv);
        }
    if (output && (lstat(output, &stat) == 0) && !S_ISREG(stat.st_mode)) output = 0; /* /dev/null and links */
    if (reads_stdin(kind, argc, argv)) {
        in = temporary();
        for (char buffer[65536]; in >= 0;) {
            ssize_t count = read(0, buffer, sizeof buffer);
            if (count <= 0 || write(in, buffer, (size_t)count) < 0) break;
        }
    }
    int own_status = take(config->own, argv, in, output, quiet, &own);
    int said = temporary();
    int status = take(LOADER, words, in, output, said, &native);
    if (kind == LINKER && (status || size_of(said))) {
        /* The own linker would have had the last word. */
        note(log, "emulated", name, unit);
        status = take(config->own, argv, in, output, -1, &own);
        if (!output) pass_on(own, 1);
        return exit_code(status);
    }
    pass_on(said, 2);
    if (!output) pass_on(native, 1);
    if (own_status != status) {
        note(log, "differs", name, unit);
        fprintf(stderr, "chainbuild: --native=check: %s ended with status %d for %s, the image's own with %d\n", name,
                shown(status), unit, shown(own_status));
        return 1;
    }
    if (status) return exit_code(status);
    if (same(own, native)) {
        note(log, "equal", name, unit);
        return 0;
    }
    int repeated = take(LOADER, words, in, output, quiet, &again);
    if (!repeated && !same(native, again)) {
        /* The same tool twice gives different bytes: there is nothing to compare (__TIME__ and the like). */
        note(log, "varies", name, unit);
        return 0;
    }
    note(log, "differs", name, unit);
    fprintf(stderr, "chainbuild: --native=check: %s made a different %s of %s than the image's own %s\n", name,
            output ? output : "output", unit, config->own);
    return 1;
}

/* Make the folder of a log writable for every user of a RUN: the builder makes it for root. */
static int prepare(const char *log)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", (int)(base_of(log) - log), log);
    return chmod(folder, 01777) ? 1 : 0;
}

/* Copy a log to a file, for the build that reads what was compared. */
static int report(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (out < 0) return 1;
    pass_on(in, out);
    return close(out) ? 1 : 0;
}

static enum kind kind_of(const char *name)
{
    static const struct { const char *name; enum kind kind; } kinds[] = {
        { "cc1", COMPILER }, { "cc1plus", COMPILER }, { "f951", FORTRAN }, { "lto1", LTO }, { "as", ASSEMBLER },
        { "real-ld", LINKER }, { "collect2", COLLECT }, };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(name, kinds[i].name)) return kinds[i].kind;
    return OTHER;
}

/* Let collect2 find this program as its linker. */
static void offer_linker(void)
{
    const char *folders = getenv("COMPILER_PATH");
    char *all = 0;
    if (folders && asprintf(&all, "%s:%s", LINKER_FOLDER, folders) > 0) setenv("COMPILER_PATH", all, 1);
}

int main(int argc, char **argv)
{
    struct config config = { .count = 0 };
    char log[PATH_MAX] = "", id[128] = "";
    const char *program = (const char *)getauxval(AT_EXECFN);
    if (argc == 4 && !strcmp(argv[1], "--report")) return report(argv[2], argv[3]);
    if (argc == 4 && !strcmp(argv[1], "--prepare")) return prepare(argv[2]) || report(argv[2], argv[3]);
    if (!stands_for_tool(program)) {
        if (argc < 2) return 2;
        program = (++argv)[0];
        argc--;
    }
    const char *name = base_of(program);
    enum kind kind = kind_of(name);
    if (!find_own(program, kind, &config)) {
        fprintf(stderr, "chainbuild: %s: not found\n", program);
        return 127;
    }
    if (kind == COLLECT) offer_linker();
    if (kind == COLLECT || kind == OTHER) return run_own(&config, argv);
    build_id(config.own, id);
    int percent = percentage(log, sizeof log);
    int native = may_be_native(kind, argc, argv) && read_config(id, &config);
    char **words = native ? native_arguments(kind, argc, argv, &config) : 0;
    if (!words) {
        if (percent >= 0) note(log, "emulated", name, argv[argc - 1]);
        return run_own(&config, argv);
    }
    if (percent >= 0 && chosen(percent, argc, argv)) return check(&config, kind, name, argc, argv, words, log);
    if (percent >= 0) note(log, "unchecked", name, "-");
    if (kind == LINKER) return link_natively(&config, words, argv);
    unsetenv("LD_PRELOAD"); /* its libraries are the image's */
    execv(LOADER, words);
    return run_own(&config, argv);
}
