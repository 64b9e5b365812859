/* Which native program stands in for a file that is about to be started, and how it is started.
 *
 * The file PROGRAMS/BUILD-ID has what is known about the image's own program with that build ID, in lines:
 *
 *   tool PATH        the native program
 *   unless PATH      not if the image has this file
 *   unset NAME       not if this variable is set
 *   words WORD...    only if the arguments begin with these words
 *   without WORD...  not if one of these words is among the arguments
 *   with PATH TOOL   another native program, if the image has this file
 *
 * A script is started by the program for its interpreter. Native programs get their own loader and libraries, and
 * `started.c` in front of them, by which they start others.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "identify.h"

#define PROGRAMS TOOLS "/programs/"
#define STARTED TOOLS "/lib/started.so"
#define REAL TOOLS "/real"
#define PROGRAM_WORD 7 /* the program's place in the command line of its loader */
#define FIXED_WORDS 12 /* at most, besides the arguments given */

struct stand_in {
    char program[PATH_MAX];
    char line[256]; /* of a script: behind #! */
    char *interpreter, *argument;
};

/* Split the first line of a script as the kernel does: the interpreter, and the rest as one argument. */
static int split_line(struct stand_in *found, const unsigned char *head, size_t size)
{
    size_t length = 0;
    while (length + 2 < size && head[length + 2] != '\n') length++;
    if (length + 2 == size || length >= sizeof found->line) return 0;
    memcpy(found->line, head + 2, length);
    found->line[length] = 0;
    if (strlen(found->line) != length) return 0;
    while (length && strchr(" \t", found->line[length - 1])) found->line[--length] = 0;
    found->interpreter = found->line + strspn(found->line, " \t");
    found->argument = found->interpreter + strcspn(found->interpreter, " \t");
    if (*found->argument) *found->argument++ = 0;
    found->argument += strspn(found->argument, " \t");
    if (!*found->argument) found->argument = 0;
    return *found->interpreter == '/';
}

static const char *variable(char *const *environment, const char *name)
{
    size_t length = strlen(name);
    for (; environment && *environment; environment++)
        if (!strncmp(*environment, name, length) && (*environment)[length] == '=') return *environment + length + 1;
    return 0;
}

static int exists(const char *path) { return !faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW); }

/* Return whether the arguments behind the program's name begin with these words. */
static int begins_with(char *const *argv, char *words)
{
    for (size_t i = 1; *words; i++) {
        size_t length = strcspn(words, " ");
        if (!argv || !argv[0] || !argv[i] || strlen(argv[i]) != length || strncmp(argv[i], words, length)) return 0;
        words += length + (words[length] == ' ');
    }
    return 1;
}

/* Return whether one of these words is among the arguments. */
static int has_one_of(char *const *argv, const char *words)
{
    for (size_t i = 1; argv && argv[0] && argv[i]; i++)
        for (const char *word = words; *word;) {
            size_t length = strcspn(word, " ");
            if (strlen(argv[i]) == length && !strncmp(argv[i], word, length)) return 1;
            word += length + (word[length] == ' ');
        }
    return 0;
}

/* Read what is known about a build ID: the native program, and when it stands in for the image's own one. */
static int read_rules(const char *id, char *const *argv, char *const *environment, char program[PATH_MAX])
{
    char path[sizeof PROGRAMS + 128], text[4096], *line = text, *end, *value;
    snprintf(path, sizeof path, PROGRAMS "%s", id);
    ssize_t size = first_bytes(path, (unsigned char *)text, sizeof text - 1);
    program[0] = text[size > 0 ? size : 0] = 0;
    for (; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        if (!(value = strchr(line, ' '))) return 0;
        *value++ = 0;
        char *second = strchr(value, ' ');
        if (!strcmp(line, "tool")) snprintf(program, PATH_MAX, "%s", value);
        else if (!strcmp(line, "unless")) {
            if (exists(value)) return 0;
        } else if (!strcmp(line, "unset")) {
            if (variable(environment, value)) return 0;
        } else if (!strcmp(line, "words")) {
            if (!begins_with(argv, value)) return 0;
        } else if (!strcmp(line, "without")) {
            if (has_one_of(argv, value)) return 0;
        } else if (!strcmp(line, "with") && second) {
            *second++ = 0;
            if (exists(value)) snprintf(program, PATH_MAX, "%s", second);
        } else return 0;
    }
    return *program == '/';
}

/* Return whether the environment lets programs be replaced: libraries and settings of the image's own programs are not
 * for native ones. */
static int may_replace(char *const *environment)
{
    const char *native = variable(environment, "CHAINBUILD_NATIVE"), *preload = variable(environment, "LD_PRELOAD");
    return !(native && !strcmp(native, "off")) && !(preload && *preload) && !variable(environment, "APT_CONFIG")
        && !variable(environment, "LD_AUDIT");
}

/* Find the native program for a file that is started with these words; 0 if the file is to be started as it is. */
static int find_stand_in(const char *path, char *const *argv, char *const *environment, struct stand_in *found)
{
    unsigned char head[4096];
    char id[128];
    int error = errno, native = 0;
    if (!may_replace(environment)) return 0;
    found->interpreter = found->argument = 0;
    ssize_t size = access(path, X_OK) ? -1 : first_bytes(path, head, sizeof head);
    if (size > 2 && head[0] == '#' && head[1] == '!' && split_line(found, head, (size_t)size)) {
        size = access(found->interpreter, X_OK) ? -1 : first_bytes(found->interpreter, head, sizeof head);
    }
    if (size > 0) {
        build_id_in(head, (size_t)size, id);
        native = *id && read_rules(id, argv, environment, found->program) && !access(LOADER, X_OK);
    }
    errno = error;
    return native;
}

static size_t count_of(char *const *words)
{
    size_t count = 0;
    while (words && words[count]) count++;
    return count;
}

/* Write the command line of a native program. `words` has room for FIXED_WORDS more than `argv`. */
static void native_words(const struct stand_in *found, const char *path, char *const *argv, char **words)
{
    const char *name = found->interpreter ? found->interpreter : argv && *argv ? *argv : path;
    size_t count = 0;
    words[count++] = (char *)LOADER;
    words[count++] = (char *)"--library-path";
    words[count++] = (char *)TOOLS "/lib";
    words[count++] = (char *)"--preload";
    words[count++] = (char *)STARTED;
    words[count++] = (char *)"--argv0";
    words[count++] = (char *)name;
    words[count++] = (char *)found->program;
    if (found->argument) words[count++] = found->argument;
    if (found->interpreter) words[count++] = (char *)path;
    for (size_t i = 1; argv && *argv && argv[i]; i++) words[count++] = argv[i];
    words[count] = 0;
}
