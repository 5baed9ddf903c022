/* Loaded into every process of a flow by LD_PRELOAD, it tells which files have reached the disk.
 *
 *   CRASH_SYNCED  the file that gets a line for each sync: 'full' or, for one that leaves the flush of the disk
 *                 to a later full one, 'begun'; then device, inode, size and time of the file
 *
 * A file is on the disk as long as it is still the one of such a line. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int tell(const char *how, int fd, int result)
{
	char line[256];
	struct stat of;
	const char *synced = getenv("CRASH_SYNCED");
	int error = errno;
	if (result == 0 && synced && fstat(fd, &of) == 0) {
		int to = open(synced, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		int length = snprintf(line, sizeof line, "%s %lu %lu %ld %ld\n", how, (unsigned long)of.st_dev,
				      (unsigned long)of.st_ino, (long)of.st_size,
				      (long)of.st_mtim.tv_sec * 1000000000 + of.st_mtim.tv_nsec);
		if (write(to, line, length) != length)
			abort();
		close(to);
	}
	errno = error;
	return result;
}

int fsync(int fd)
{
	return tell("full", fd, REAL(fsync)(fd));
}

int fdatasync(int fd)
{
	return tell("full", fd, REAL(fdatasync)(fd));
}

int sync_file_range(int fd, off64_t offset, off64_t size, unsigned int flags)
{
	return tell("begun", fd, REAL(sync_file_range)(fd, offset, size, flags));
}
