/* Fails writes to regular files, and opening them to be written, with EROFS while the file named by TENMINT_TEST_READ_ONLY is there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int is_read_only(void) {
    const char *flag = getenv("TENMINT_TEST_READ_ONLY");
    return flag && access(flag, F_OK) == 0;
}

static int is_refused(int fd) {
    struct stat file;
    if (!is_read_only() || fstat(fd, &file) != 0 || !S_ISREG(file.st_mode)) {
        return 0;
    }
    errno = EROFS;
    return 1;
}

static int is_refused_at(const char *path, int flags) {
    struct stat file;
    if ((flags & O_ACCMODE) == O_RDONLY || !is_read_only() || stat(path, &file) != 0 || !S_ISREG(file.st_mode)) {
        return 0;
    }
    errno = EROFS;
    return 1;
}

#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))
typedef ssize_t (*write_fn)(int, const void *, size_t);
typedef ssize_t (*pwrite_fn)(int, const void *, size_t, off64_t);
typedef int (*truncate_fn)(int, off64_t);
typedef int (*open_fn)(const char *, int, mode_t);

static int open_by(const char *name, const char *path, int flags, mode_t mode) {
    return is_refused_at(path, flags) ? -1 : REAL(open_fn, name)(path, flags, mode);
}

#define OPEN(name)                                            \
    int name(const char *path, int flags, ...) {              \
        va_list rest;                                         \
        va_start(rest, flags);                                \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                         \
        return open_by(#name, path, flags, mode);             \
    }

OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *bytes, size_t length) {
    return is_refused(fd) ? -1 : REAL(write_fn, "write")(fd, bytes, length);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return is_refused(fd) ? -1 : REAL(pwrite_fn, "pwrite")(fd, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    return is_refused(fd) ? -1 : REAL(pwrite_fn, "pwrite64")(fd, bytes, length, at);
}

int ftruncate(int fd, off_t length) {
    return is_refused(fd) ? -1 : REAL(truncate_fn, "ftruncate")(fd, length);
}

int ftruncate64(int fd, off64_t length) {
    return is_refused(fd) ? -1 : REAL(truncate_fn, "ftruncate64")(fd, length);
}
