// The calls of libc that this layer stands in for: names.

static int rename_at(int at, const char *path, int to_at, const char *to_path, unsigned flags)
{
    struct place from, to;
    if (!find_place(at, path, &from)) return REAL(renameat2, at, path, to_at, to_path, flags);
    if (!find_place(to_at, to_path, &to)) {
        leave(&from);
        return REAL(renameat2, at, path, to_at, to_path, flags);
    }
    lock();
    delay(RENAME, from.path);
    struct stat st, target;
    int result = -1, problem = fault(RENAME, from.path, to.path, 0);
    bool known = fstatat(from.at, from.name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    bool replaces = fstatat(to.at, to.name, &target, AT_SYMLINK_NOFOLLOW) == 0;
    bool same = known && replaces && st.st_ino == target.st_ino && st.st_dev == target.st_dev;
    unsigned backup = !problem && known && replaces && !same && flags == 0 ? back_up(to.at, to.name, &target) : 0;
    if (problem) errno = problem;
    else result = REAL(renameat2, at, path, to_at, to_path, flags);
    if (result != 0) {
        drop_backup(backup);
    } else if (known && !same) {
        struct node *node = find_node(st.st_dev, st.st_ino);
        if (node) set_path(node, to.path);
        changed(flags & RENAME_EXCHANGE ? SWAPPED : MOVED, &from, &to, &st, backup);
        sweep();
    }
    unlock();
    leave(&from);
    leave(&to);
    return result;
}
int rename(const char *path, const char *to) { return rename_at(AT_FDCWD, path, AT_FDCWD, to, 0); }
int renameat(int at, const char *path, int to_at, const char *to) { return rename_at(at, path, to_at, to, 0); }
int renameat2(int at, const char *path, int to_at, const char *to, unsigned flags) { return rename_at(at, path, to_at, to, flags); }

static int remove_at(int at, const char *path, int flags)
{
    struct place place;
    if (!find_place(at, path, &place)) return REAL(unlinkat, at, path, flags);
    lock();
    struct stat st;
    bool known = fstatat(place.at, place.name, &st, AT_SYMLINK_NOFOLLOW) == 0, folder = flags & AT_REMOVEDIR;
    unsigned backup = known && !folder ? back_up(place.at, place.name, &st) : 0;
    int result = REAL(unlinkat, at, path, flags);
    if (result != 0) {
        drop_backup(backup);
    } else if (known) {
        if (folder || backup) changed(folder ? GONE_FOLDER : GONE, &place, NULL, &st, backup);
        sweep();
    }
    unlock();
    leave(&place);
    return result;
}
int unlink(const char *path) { return remove_at(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return remove_at(at, path, flags); }
int rmdir(const char *path) { return remove_at(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path)
{
    int result = remove_at(AT_FDCWD, path, 0);
    return result != 0 && errno == EISDIR ? remove_at(AT_FDCWD, path, AT_REMOVEDIR) : result;
}

static int make_folder(int at, const char *path, mode_t mode)
{
    struct place place;
    if (!find_place(at, path, &place)) return REAL(mkdirat, at, path, mode);
    lock();
    struct stat st;
    int result = REAL(mkdirat, at, path, mode);
    if (result == 0 && fstatat(place.at, place.name, &st, AT_SYMLINK_NOFOLLOW) == 0) changed(MADE_FOLDER, &place, NULL, &st, 0);
    unlock();
    leave(&place);
    return result;
}
int mkdir(const char *path, mode_t mode) { return make_folder(AT_FDCWD, path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { return make_folder(at, path, mode); }

static int link_at(int at, const char *path, int to_at, const char *to_path, int flags)
{
    struct place place;
    if (!find_place(to_at, to_path, &place)) return REAL(linkat, at, path, to_at, to_path, flags);
    lock();
    struct stat st;
    int result = REAL(linkat, at, path, to_at, to_path, flags);
    if (result == 0 && fstatat(place.at, place.name, &st, AT_SYMLINK_NOFOLLOW) == 0) changed(MADE, &place, NULL, &st, 0);
    unlock();
    leave(&place);
    return result;
}
int link(const char *path, const char *to) { return link_at(AT_FDCWD, path, AT_FDCWD, to, 0); }
int linkat(int at, const char *path, int to_at, const char *to, int flags) { return link_at(at, path, to_at, to, flags); }
