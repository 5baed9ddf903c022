/* Loaded into git by LD_PRELOAD, it tells each call that changes a file; from one of them on git dies, or all fail.
 *
 *   CRASH_STEPS   the file that gets a line for each call: what, and on which path
 *   CRASH_STEP    the number of the call before which git and the flow are killed; without it, none is
 *   CRASH_ERRNO   with it nothing is killed, but that call and all later ones fail with this error
 *   CRASH_GROUP   the process group of the flow
 *
 * Processes that git starts count on, as they inherit all of it. These are the calls that git is made with on
 * Linux and glibc; the test that uses this makes sure that it has seen some. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Tells a call, and returns whether it is to fail, with errno set. */
static int step(const char *call, const char *path)
{
	char line[4096], seen[65536];
	const char *steps = getenv("CRASH_STEPS"), *wanted = getenv("CRASH_STEP"), *group = getenv("CRASH_GROUP");
	const char *fault = getenv("CRASH_ERRNO");
	int fails = 0, error = errno;
	int fd = steps ? REAL(open64)(steps, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
	if (fd < 0)
		return 0;
	int length = snprintf(line, sizeof line, "%s %s\n", call, path);
	if (REAL(write)(fd, line, length) == length && wanted) {
		int count = 0;
		ssize_t size = pread(fd, seen, sizeof seen, 0);
		for (ssize_t i = 0; i < size; i++)
			count += seen[i] == '\n';
		if (fault)
			fails = count >= atoi(wanted);
		else if (count == atoi(wanted)) {
			if (group)
				kill(-atoi(group), SIGKILL);
			kill(0, SIGKILL); /* git has a session of its own */
		}
	}
	close(fd);
	if (!strcmp(call, "unlink") || !strcmp(call, "rmdir"))
		fails = 0; /* for which even a full disk has room */
	errno = fails ? atoi(fault) : error;
	return fails;
}

static int is_there(const char *path)
{
	struct stat found;
	return lstat(path, &found) == 0;
}

/* git tries to make an object first, and then the directory for it, which other objects may have brought */
static int has_place(const char *path)
{
	char directory[4096];
	snprintf(directory, sizeof directory, "%s", path);
	char *end = strrchr(directory, '/');
	if (!end)
		return 1;
	*end = 0;
	return is_there(directory);
}

int open64(const char *path, int flags, ...)
{
	va_list rest;
	va_start(rest, flags);
	mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
	va_end(rest);
	if (flags & (O_CREAT | O_TRUNC) && strcmp(path, "/dev/null") && has_place(path) && step("open", path))
		return -1;
	return REAL(open64)(path, flags, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
	if (strpbrk(mode, "wa+") && strcmp(path, "/dev/null") && step("open", path))
		return NULL;
	return REAL(fopen64)(path, mode);
}

ssize_t write(int fd, const void *data, size_t size)
{
	char link[64], path[4096];
	struct stat found;
	if (fstat(fd, &found) == 0 && S_ISREG(found.st_mode)) {
		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		ssize_t length = readlink(link, path, sizeof path - 1);
		path[length > 0 ? length : 0] = 0;
		if (step("write", path))
			return -1;
	}
	return REAL(write)(fd, data, size);
}

int ftruncate64(int fd, off64_t size)
{
	if (step("truncate", ""))
		return -1;
	return REAL(ftruncate64)(fd, size);
}

int rename(const char *old, const char *new)
{
	if (step("rename", new))
		return -1;
	return REAL(rename)(old, new);
}

int link(const char *old, const char *new)
{
	if (step("link", new))
		return -1;
	return REAL(link)(old, new);
}

int symlink(const char *target, const char *path)
{
	if (step("symlink", path))
		return -1;
	return REAL(symlink)(target, path);
}

int mkdir(const char *path, mode_t mode)
{
	/* of directories of objects there are more or less, as ids will have it */
	if (!is_there(path) && !strstr(path, "/objects/") && step("mkdir", path))
		return -1;
	return REAL(mkdir)(path, mode);
}

int rmdir(const char *path)
{
	if (is_there(path) && step("rmdir", path))
		return -1;
	return REAL(rmdir)(path);
}

int unlink(const char *path)
{
	if (is_there(path) && step("unlink", path))
		return -1;
	return REAL(unlink)(path);
}
