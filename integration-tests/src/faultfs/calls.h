// The calls of libc that this layer stands in for: content.

static int set_length(struct node *node, int fd, off_t size, off_t length)
{
    struct op *op = note(node, fd, true, length, length < size ? size - length : 0, size);
    op->size_after = length;
    int result = REAL(ftruncate, fd, length);
    if (result != 0) unnote(node);
    return result;
}

static int open_at(int at, const char *path, int flags, mode_t mode)
{
    struct place place;
    struct stat st;
    if ((flags & O_PATH) || !find_place(at, path, &place)) {
        int fd = REAL(openat, at, path, flags, mode);
        // The parent of the root is not below it.
        bool looks = root_len && fd >= 0 && !(flags & O_PATH);
        if (looks && fstat(fd, &st) == 0 && st.st_ino == root_stat.st_ino && st.st_dev == root_stat.st_dev) {
            lock();
            share_fd(fd, node_for(&st, ""));
            unlock();
        }
        return fd;
    }
    bool truncates = (flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY;
    lock();
    delay(OPEN, place.path);
    int problem = fault(OPEN, place.path, NULL, 0), fd = -1;
    bool made = (flags & O_CREAT) && *place.name && fstatat(place.at, place.name, &st, AT_SYMLINK_NOFOLLOW) != 0;
    if (problem) errno = problem;
    else fd = REAL(openat, at, path, truncates ? flags & ~O_TRUNC : flags, mode);
    if (fd >= 0 && fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))) {
        struct node *node = node_for(&st, place.path);
        share_fd(fd, node);
        if (made) changed(MADE, &place, NULL, &st, 0);
        if (truncates && st.st_size > 0) set_length(node, fd, st.st_size, 0);
    }
    unlock();
    leave(&place);
    return fd;
}

#define MODE_OF(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list list; \
        va_start(list, flags); \
        mode = va_arg(list, mode_t); \
        va_end(list); \
    }

int open(const char *path, int flags, ...) { MODE_OF(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE_OF(flags) return open_at(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE_OF(flags) return open_at(at, path, flags, mode); }
int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __openat_2(int at, const char *path, int flags) { return open_at(at, path, flags, 0); }
int __openat64_2(int at, const char *path, int flags) { return open_at(at, path, flags, 0); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

static void close_tracked(int fd)
{
    if (fd < 0 || fd >= FDS || !table[fd]) return;
    lock();
    forget_fd(fd);
    unlock();
}

int close(int fd)
{
    close_tracked(fd);
    return REAL(close, fd);
}

int close_range(unsigned first, unsigned last, int flags)
{
    bool closes = !(flags & 4); // CLOSE_RANGE_CLOEXEC
    for (unsigned fd = first; closes && fd <= last && fd < FDS; fd++) close_tracked(fd);
    return REAL(close_range, first, last, flags);
}

// `to` is a copy of `fd`.
static int copied(int fd, int to)
{
    if (to < 0 || to >= FDS || fd >= FDS || fd == to || (!table[fd] && !table[to])) return to;
    lock();
    if (table[fd]) share_fd(to, table[fd]);
    else forget_fd(to);
    unlock();
    return to;
}

int dup(int fd) { return copied(fd, REAL(dup, fd)); }
int dup2(int fd, int to) { return fd == to ? (REAL(fcntl, fd, F_GETFD, 0) < 0 ? -1 : to) : copied(fd, REAL(dup3, fd, to, 0)); }
int dup3(int fd, int to, int flags) { return copied(fd, REAL(dup3, fd, to, flags)); }

static int control_fd(int fd, int command, void *argument)
{
    int result = REAL(fcntl, fd, command, argument);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, result) : result;
}

#define ARGUMENT_OF(last) va_list list; va_start(list, last); void *argument = va_arg(list, void *); va_end(list);
int fcntl(int fd, int command, ...) { ARGUMENT_OF(command) return control_fd(fd, command, argument); }
int fcntl64(int fd, int command, ...) { ARGUMENT_OF(command) return control_fd(fd, command, argument); }

// ---- Content ----

// `offset` -1: where the descriptor stands.
static ssize_t write_real(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    if (flags) return REAL(pwritev2, fd, parts, count, offset, 0, flags);
    return offset < 0 ? REAL(writev, fd, parts, count) : REAL(pwritev, fd, parts, count, offset, 0);
}

static ssize_t write_to(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    struct stat st;
    struct node *node = enter(fd, WRITE, &st);
    if (!node) return write_real(fd, parts, count, offset, flags);
    size_t len = 0;
    for (int i = 0; i < count; i++) len += parts[i].iov_len;
    struct iovec half;
    int problem = fault(WRITE, node->path, NULL, len);
    if (problem == SHORT) {
        half = (struct iovec){parts[0].iov_base, (parts[0].iov_len + 1) / 2};
        parts = &half, count = 1, len = half.iov_len, problem = 0;
    }
    ssize_t written = -1;
    if (problem) {
        errno = problem;
    } else {
        bool appends = REAL(fcntl, fd, F_GETFL, 0) & O_APPEND;
        off_t at = appends ? st.st_size : offset >= 0 ? offset : REAL(lseek, fd, 0, SEEK_CUR);
        struct op *op = note(node, fd, false, at, len, st.st_size);
        written = write_real(fd, parts, count, offset, flags);
        if (written <= 0) {
            unnote(node);
        } else {
            op->len = written;
            if (op->old_len > op->len) op->old_len = op->len;
            if (at + written > st.st_size) op->size_after = at + written;
        }
    }
    unlock();
    return written;
}

// What has no tracked file behind it goes the direct way: sockets too come along here.
#define TRACKED(fd) ((fd) >= 0 && (fd) < FDS && table[fd])
// A negative offset means an error here, and the position in `write_to`.
static ssize_t write_at(int fd, const struct iovec *parts, int count, off_t offset)
{
    if (offset < 0) { errno = EINVAL; return -1; }
    return write_to(fd, parts, count, offset, 0);
}

static ssize_t write_bytes_at(int fd, const void *bytes, size_t len, off_t offset)
{
    struct iovec part = {(void *)bytes, len};
    return TRACKED(fd) ? write_at(fd, &part, 1, offset) : REAL(pwrite64, fd, bytes, len, offset);
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    struct iovec part = {(void *)bytes, len};
    return TRACKED(fd) ? write_to(fd, &part, 1, -1, 0) : REAL(write, fd, bytes, len);
}
ssize_t writev(int fd, const struct iovec *parts, int count) { return write_to(fd, parts, count, -1, 0); }
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset) { return write_bytes_at(fd, bytes, len, offset); }
ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t offset) { return write_bytes_at(fd, bytes, len, offset); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return write_at(fd, parts, count, offset); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) { return write_at(fd, parts, count, offset); }
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    return write_to(fd, parts, count, offset, flags);
}
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags)
{
    return write_to(fd, parts, count, offset, flags);
}

// Refused, as some file systems do: the caller then reads and writes.
ssize_t copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t len, unsigned flags)
{
    if (TRACKED(to)) { errno = ENOSYS; return -1; }
    return REAL(copy_file_range, from, from_offset, to, to_offset, len, flags);
}
ssize_t sendfile(int to, int from, off_t *offset, size_t len)
{
    if (TRACKED(to)) { errno = EINVAL; return -1; }
    return REAL(sendfile, to, from, offset, len);
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t len) { return sendfile(to, from, offset, len); }

static int truncate_fd(int fd, off_t length)
{
    struct stat st;
    struct node *node = enter(fd, FTRUNCATE, &st);
    if (!node) return REAL(ftruncate, fd, length);
    int result = -1, problem = fault(FTRUNCATE, node->path, NULL, 0);
    if (problem) errno = problem;
    else result = length < 0 || length == st.st_size ? (int)REAL(ftruncate, fd, length) : set_length(node, fd, st.st_size, length);
    unlock();
    return result;
}
int ftruncate(int fd, off_t length) { return truncate_fd(fd, length); }
int ftruncate64(int fd, off64_t length) { return truncate_fd(fd, length); }

static int truncate_path(const char *path, off_t length)
{
    int fd = open_at(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0) return -1;
    int result = truncate_fd(fd, length), saved = errno;
    close(fd);
    errno = saved;
    return result;
}
int truncate(const char *path, off_t length) { return truncate_path(path, length); }
int truncate64(const char *path, off64_t length) { return truncate_path(path, length); }

static int allocate(int fd, int mode, off_t at, off_t len)
{
    struct stat st;
    struct node *node = enter(fd, FALLOCATE, &st);
    if (!node) return REAL(fallocate, fd, mode, at, len);
    bool punches = mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    int result = -1, problem = fault(FALLOCATE, node->path, NULL, 0);
    if (!problem && mode != 0 && mode != FALLOC_FL_KEEP_SIZE && !punches) problem = EOPNOTSUPP;
    if (problem) {
        errno = problem;
    } else {
        struct op *op = NULL;
        if (punches && at >= 0 && at < st.st_size && len > 0) {
            off_t there = st.st_size - at;
            op = note(node, fd, false, at, len < there ? len : there, st.st_size);
        }
        if (mode == 0 && at >= 0 && len > 0 && at + len > st.st_size) {
            op = note(node, fd, true, at + len, 0, st.st_size);
            op->size_after = at + len;
        }
        result = REAL(fallocate, fd, mode, at, len);
        if (result != 0 && op) unnote(node);
    }
    unlock();
    return result;
}
int fallocate(int fd, int mode, off_t at, off_t len) { return allocate(fd, mode, at, len); }
int fallocate64(int fd, int mode, off64_t at, off64_t len) { return allocate(fd, mode, at, len); }
int posix_fallocate(int fd, off_t at, off_t len) { return allocate(fd, 0, at, len) == 0 ? 0 : errno; }
int posix_fallocate64(int fd, off64_t at, off64_t len) { return allocate(fd, 0, at, len) == 0 ? 0 : errno; }

static bool read_fails(int fd)
{
    struct stat st;
    struct node *node = rule_count ? enter(fd, READ, &st) : NULL;
    if (!node) return false;
    int problem = fault(READ, node->path, NULL, 0);
    unlock();
    if (problem) errno = problem;
    return problem != 0;
}
ssize_t read(int fd, void *to, size_t len) { return read_fails(fd) ? -1 : REAL(read, fd, to, len); }
ssize_t readv(int fd, const struct iovec *parts, int count) { return read_fails(fd) ? -1 : REAL(readv, fd, parts, count); }
ssize_t pread(int fd, void *to, size_t len, off_t at) { return read_fails(fd) ? -1 : REAL(pread64, fd, to, len, at); }
ssize_t pread64(int fd, void *to, size_t len, off64_t at) { return read_fails(fd) ? -1 : REAL(pread64, fd, to, len, at); }
ssize_t preadv(int fd, const struct iovec *parts, int count, off_t at)
{
    return read_fails(fd) ? -1 : REAL(preadv, fd, parts, count, at, 0);
}
ssize_t preadv64(int fd, const struct iovec *parts, int count, off64_t at) { return preadv(fd, parts, count, at); }

// ---- Syncs. sync_file_range guarantees nothing, so it goes by unseen. ----

static int sync_real(int fd, bool data) { return data ? REAL(fdatasync, fd) : REAL(fsync, fd); }

static int sync_fd(int fd, bool data)
{
    struct stat st;
    struct node *node = enter(fd, FSYNC, &st);
    if (!node) return sync_real(fd, data);
    int result = -1, problem = fault(FSYNC, node->path, NULL, 0);
    uint64_t number = numbers;
    // The others go on meanwhile; what they write now belongs to the next sync.
    node->users++;
    unlock();
    if (!problem) result = sync_real(fd, data), problem = result == 0 ? 0 : errno;
    lock();
    node->users--;
    // Names whose sync has failed just stay un-synced.
    if (!node->folder && result != 0) lose(node, number);
    else if (!node->folder) settle(node, number);
    else if (result == 0) settle_names(node, number);
    free_if_done(node);
    unlock();
    if (problem) errno = problem;
    return result;
}
int fsync(int fd) { return sync_fd(fd, false); }
int fdatasync(int fd) { return sync_fd(fd, true); }

static void sync_all(void)
{
    lock();
    for (struct node *node = nodes; node; node = node->next) settle(node, numbers);
    settle_names(NULL, numbers);
    sweep();
    unlock();
}
void sync(void)
{
    syscall(SYS_sync);
    sync_all();
}
int syncfs(int fd)
{
    int result = REAL(syncfs, fd);
    if (result == 0 && TRACKED(fd)) sync_all();
    return result;
}
