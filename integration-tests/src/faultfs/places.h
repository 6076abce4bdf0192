// Whether a path is below the folder, and which rule is for a call.

struct place {
    int at; // the parent
    char name[NAME_MAX + 1];
    char path[PATH_MAX + NAME_MAX + 2]; // below the root
};

static bool path_of(int fd, char *path)
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = REAL(readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (len < 0) return false;
    path[len] = 0;
    return true;
}

// The part of an absolute path below the root; NULL: it is elsewhere.
static const char *below_root(const char *path)
{
    if (strncmp(path, root, root_len) != 0 || (path[root_len] != 0 && path[root_len] != '/')) return NULL;
    return path[root_len] ? path + root_len + 1 : "";
}

static void leave(struct place *place)
{
    int saved = errno;
    REAL(close, place->at);
    errno = saved;
}

static bool find_place(int at, const char *path, struct place *place)
{
    char parent[PATH_MAX], whole[PATH_MAX];
    size_t len = root_len ? strnlen(path, PATH_MAX) : 0;
    if (len == 0 || len >= PATH_MAX) return false;
    memcpy(parent, path, len + 1);
    while (len > 1 && parent[len - 1] == '/') parent[--len] = 0;
    char *slash = strrchr(parent, '/'), *name = slash ? slash + 1 : parent;
    bool itself = !*name || !strcmp(name, ".") || !strcmp(name, "..");
    size_t name_len = strlen(name);
    if (name_len > NAME_MAX || !strncmp(name, "LOG", 3)) return false;
    // Memory that processes share: cutting it would pull it from under them, and nobody relies on it after a start.
    if (name_len > 4 && !strcmp(name + name_len - 4, "-shm")) return false;
    strcpy(place->name, itself ? "" : name);
    if (!itself && !slash) strcpy(parent, ".");
    else if (!itself) slash[slash == parent] = 0;
    int saved = errno;
    place->at = REAL(openat, at, parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    const char *folder = place->at >= 0 && path_of(place->at, whole) ? below_root(whole) : NULL;
    bool ours = folder && strncmp(folder, ".faultfs", 8) != 0;
    if (ours) snprintf(place->path, sizeof place->path, "%s%s%s", folder, *folder && *place->name ? "/" : "", place->name);
    if (!ours && place->at >= 0) REAL(close, place->at);
    errno = saved;
    return ours;
}

static bool matches(const struct rule *rule, enum call call, const char *path, const char *other)
{
    if (rule->call != call) return false;
    if (strpbrk(rule->pattern, "*?[")) return !fnmatch(rule->pattern, path, 0) || (other && !fnmatch(rule->pattern, other, 0));
    return strstr(path, rule->pattern) || (other && strstr(other, rule->pattern));
}

// Under the lock: the error that this call must end with, SHORT, or 0.
static int fault(enum call call, const char *path, const char *other, size_t len)
{
    for (unsigned i = 0; i < rule_count; i++) {
        struct rule *rule = &rules[i];
        if (!rule->problem || (!rule->for_ever && rule->count == 0) || !matches(rule, call, path, other)) continue;
        if (rule->after > 0) { rule->after--; continue; }
        if (rule->shortens && !rule->shortened && len > 1) { rule->shortened = true; return SHORT; }
        rule->shortened = false;
        if (!rule->for_ever) rule->count--;
        hits++;
        return rule->problem;
    }
    return 0;
}

// Under the lock; without it while it waits.
static void delay(enum call call, const char *path)
{
    unsigned ms = 0;
    for (unsigned i = 0; i < rule_count; i++)
        if (!rules[i].problem && matches(&rules[i], call, path, NULL)) ms += rules[i].milliseconds;
    if (!ms) return;
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
    unlock();
    while (nanosleep(&time, &time) != 0 && errno == EINTR) {}
    lock();
}
