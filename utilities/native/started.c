/* In front of the C library of native programs: whatever they start is native too, if a native program stands in for it.
 *
 * All calls by which a program starts another one are replaced; they do as exec(3), system(3) and posix_spawn(3) say.
 * popen(3) is left as it is: its shell is emulated. apt gets the settings that are compiled into the image's own apt.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "programs.h"

#define MOST_WORDS 65536
#define SHELL "/bin/sh"

extern char **environ;

/* No memory is allocated and nothing is changed but the stack: the caller may be the child of a vfork(2). */
int execve(const char *path, char *const argv[], char *const environment[])
{
    size_t count = count_of(argv);
    struct stand_in found;
    if (count < MOST_WORDS && find_stand_in(path, argv, environment, &found)) {
        char *words[count + FIXED_WORDS];
        native_words(&found, path, argv, words);
        syscall(SYS_execve, LOADER, words, environment);
    }
    return (int)syscall(SYS_execve, path, argv, environment);
}

int execv(const char *path, char *const argv[]) { return execve(path, argv, environ); }

/* Start a file without a format that the kernel knows as a script of the shell. */
static void run_by_shell(const char *path, char *const argv[], char *const environment[])
{
    size_t count = count_of(argv);
    if (count >= MOST_WORDS) {
        errno = E2BIG;
        return;
    }
    char *words[count + 3];
    words[0] = (char *)SHELL;
    words[1] = (char *)path;
    for (size_t i = 1; i < count; i++) words[i + 1] = argv[i];
    words[count > 1 ? count + 1 : 2] = 0;
    execve(SHELL, words, environment);
}

int execvpe(const char *file, char *const argv[], char *const environment[])
{
    if (!*file) {
        errno = ENOENT;
        return -1;
    }
    if (strchr(file, '/')) {
        execve(file, argv, environment);
        if (errno == ENOEXEC) run_by_shell(file, argv, environment);
        return -1;
    }
    const char *list = variable(environ, "PATH");
    int denied = 0;
    errno = ENOENT;
    for (const char *start = list ? list : "/bin:/usr/bin";; start++) {
        const char *end = strchrnul(start, ':');
        char path[PATH_MAX];
        int length = end > start ? snprintf(path, sizeof path, "%.*s/%s", (int)(end - start), start, file)
                                 : snprintf(path, sizeof path, "%s", file);
        if (length > 0 && length < (int)sizeof path) {
            execve(path, argv, environment);
            if (errno == ENOEXEC) run_by_shell(path, argv, environment);
            if (errno == EACCES) denied = 1;
            else if (errno != ENOENT && errno != ESTALE && errno != ENOTDIR && errno != ENODEV && errno != ETIMEDOUT) return -1;
        }
        start = end;
        if (!*end) break;
    }
    if (denied) errno = EACCES;
    return -1;
}

int execvp(const char *file, char *const argv[]) { return execvpe(file, argv, environ); }

/* Call `run` with the words of an execl(3), which are in the argument list. */
#define LISTED(run)                                                      \
    va_list list, again;                                                 \
    size_t count = 1;                                                    \
    va_start(list, word);                                                \
    va_copy(again, list);                                                \
    while (va_arg(list, char *)) count++;                                \
    va_end(list);                                                        \
    char *words[count + 1];                                              \
    words[0] = (char *)word;                                             \
    for (size_t i = 1; i <= count; i++) words[i] = va_arg(again, char *); \
    int result = run;                                                    \
    va_end(again);                                                       \
    return result

int execl(const char *path, const char *word, ...) { LISTED(execve(path, words, environ)); }
int execlp(const char *file, const char *word, ...) { LISTED(execvpe(file, words, environ)); }
int execle(const char *path, const char *word, ...) { LISTED(execve(path, words, va_arg(again, char *const *))); }

int system(const char *command)
{
    if (!command) return 1;
    struct sigaction ignored = { .sa_handler = SIG_IGN }, interrupt, quit;
    sigset_t child, before;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &before);
    sigaction(SIGINT, &ignored, &interrupt);
    sigaction(SIGQUIT, &ignored, &quit);
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        sigaction(SIGINT, &interrupt, 0);
        sigaction(SIGQUIT, &quit, 0);
        sigprocmask(SIG_SETMASK, &before, 0);
        execl(SHELL, "sh", "-c", "--", command, (char *)0);
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    sigaction(SIGINT, &interrupt, 0);
    sigaction(SIGQUIT, &quit, 0);
    sigprocmask(SIG_SETMASK, &before, 0);
    return status;
}

typedef int spawn(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const *,
                  char *const *);

static int spawn_as(const char *function, pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                    const posix_spawnattr_t *attributes, char *const argv[], char *const environment[])
{
    spawn *own = (spawn *)dlsym(RTLD_NEXT, function);
    size_t count = count_of(argv);
    struct stand_in found;
    if (!strchr(path, '/') || count >= MOST_WORDS || !find_stand_in(path, argv, environment, &found))
        return own(pid, path, actions, attributes, argv, environment);
    char *words[count + FIXED_WORDS];
    native_words(&found, path, argv, words);
    return own(pid, LOADER, actions, attributes, words, environment);
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const argv[], char *const environment[])
{
    return spawn_as("posix_spawn", pid, path, actions, attributes, argv, environment);
}

int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *attributes, char *const argv[], char *const environment[])
{
    return spawn_as("posix_spawnp", pid, file, actions, attributes, argv, environment);
}

/* Return the image's path of the program that this one stands in for. It is the end of the program's own path, which is the
 * last word that `native_words` puts in front of the arguments. */
static ssize_t path_in_image(char *path, size_t size)
{
    char words[4 * PATH_MAX];
    int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, words, sizeof words - 1);
    if (file >= 0) close(file);
    if (length <= 0) return -1;
    words[length] = 0;
    const char *word = words;
    for (int i = 0; i < PROGRAM_WORD && word < words + length; i++) word += strlen(word) + 1;
    const char *found = word < words + length && !strncmp(word, REAL, sizeof REAL - 1) ? strstr(word + sizeof REAL - 1, "/usr/") : 0;
    if (!found) return -1;
    size_t count = strlen(found) < size ? strlen(found) : size;
    memcpy(path, found, count);
    return (ssize_t)count;
}

ssize_t readlink(const char *path, char *buffer, size_t size)
{
    ssize_t length = strcmp(path, "/proc/self/exe") ? -1 : path_in_image(buffer, size);
    return length >= 0 ? length : syscall(SYS_readlink, path, buffer, size);
}

/* apt reads this file first. It has the architecture, which is compiled into apt. */
char *getenv(const char *name)
{
    if (!strcmp(name, "APT_CONFIG")) return (char *)TOOLS "/apt.conf";
    return (char *)variable(environ, name);
}
