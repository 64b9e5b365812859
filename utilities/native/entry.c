/* Starts a package tool natively: mounted as apt-get, apt and dpkg in a folder of PATH that is searched before their own.
 *
 * It does what the shell would do without it, which is to start the next program of that name in PATH; natively, if a
 * native program stands in for that.
 */
#define _GNU_SOURCE
#include <sys/stat.h>

#include "programs.h"

extern char **environ;

static int is_this(const char *path)
{
    struct stat this, other;
    return !stat("/proc/self/exe", &this) && !stat(path, &other) && this.st_dev == other.st_dev && this.st_ino == other.st_ino;
}

int main(int argc, char **argv)
{
    const char *name = argc && strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argc ? argv[0] : "";
    const char *list = variable(environ, "PATH");
    char path[PATH_MAX];
    for (const char *start = list ? list : "/usr/bin:/bin"; *name && *start; start++) {
        const char *end = strchrnul(start, ':');
        int length = snprintf(path, sizeof path, "%.*s/%s", (int)(end - start), start, name);
        if (end > start && length < (int)sizeof path && !access(path, X_OK) && !is_this(path)) {
            struct stand_in found;
            char **words = calloc((size_t)argc + FIXED_WORDS, sizeof *words);
            if (words && find_stand_in(path, argv, environ, &found)) {
                native_words(&found, path, argv, words);
                execve(LOADER, words, environ);
            }
            execve(path, argv, environ);
            fprintf(stderr, "%s: %s\n", path, strerror(errno));
            return 126;
        }
        start = end;
        if (!*end) break;
    }
    fprintf(stderr, "%s: not found\n", name);
    return 127;
}
