// What is open, and what is not synced. Everything here happens under the lock.

static struct node *find_node(dev_t dev, ino_t ino)
{
    struct node *node = nodes;
    while (node && (node->dev != dev || node->ino != ino)) node = node->next;
    return node;
}

static void drop_ops(struct node *node, size_t count)
{
    for (size_t i = 0; i < count; i++) free(node->ops[i].old);
    memmove(node->ops, node->ops + count, (node->count - count) * sizeof *node->ops);
    node->count -= count;
}

// Forgets a file that nobody holds, when nothing of it is un-synced or it has no name left. Folders stay: there are few.
static void free_if_done(struct node *node)
{
    struct stat st;
    if (node->folder || node->users > 0) return;
    if (node->count > 0 && (fstat(node->own, &st) != 0 || st.st_nlink > 0)) return;
    struct node **link = &nodes;
    while (*link != node) link = &(*link)->next;
    *link = node->next;
    if (node->count > 0) drop_ops(node, node->count);
    if (node->own >= 0) REAL(close, node->own);
    free(node->ops);
    free(node->path);
    free(node);
}

static void sweep(void)
{
    for (struct node *node = nodes, *next; node; node = next) {
        next = node->next;
        free_if_done(node);
    }
}

static void set_path(struct node *node, const char *path)
{
    free(node->path);
    node->path = need(strdup(path));
}

static struct node *node_for(const struct stat *st, const char *path)
{
    struct node *node = find_node(st->st_dev, st->st_ino);
    if (!node) {
        node = need(calloc(1, sizeof *node));
        node->dev = st->st_dev, node->ino = st->st_ino, node->own = -1;
        node->next = nodes;
        nodes = node;
    }
    // Without a descriptor of ours the inode may be another one by now.
    if (node->own < 0) node->folder = S_ISDIR(st->st_mode);
    set_path(node, path);
    return node;
}

static void forget_fd(int fd)
{
    struct node *node = atomic_exchange(&table[fd], NULL);
    if (!node) return;
    node->users--;
    free_if_done(node);
}

static void share_fd(int fd, struct node *node)
{
    if (fd < 0 || fd >= FDS) return;
    node->users++;
    forget_fd(fd);
    table[fd] = node;
}

// Locks and answers what is behind a descriptor; NULL, without the lock: none of ours.
static struct node *enter(int fd, enum call call, struct stat *st)
{
    if (fd < 0 || fd >= FDS || !table[fd]) return NULL;
    int saved = errno;
    lock();
    if (table[fd]) delay(call, table[fd]->path);
    struct node *node = table[fd];
    // libc closes some descriptors by itself, as fclose does: the number may mean something else by now.
    if (node && (fstat(fd, st) != 0 || st->st_ino != node->ino || st->st_dev != node->dev)) {
        forget_fd(fd);
        node = NULL;
    }
    if (!node) unlock();
    errno = saved;
    return node;
}

// ---- What is not synced ----

// Notes a change that is about to be made to [at, at + len).
static struct op *note(struct node *node, int fd, bool resize, off_t at, size_t len, off_t size)
{
    if (node->own < 0) {
        char link[40];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        node->own = REAL(openat, AT_FDCWD, link, O_RDWR | O_CLOEXEC);
        if (node->own < 0) give_up("cannot open a file a second time");
    }
    if (node->count == node->room) {
        node->room = node->room ? 2 * node->room : 16;
        node->ops = need(realloc(node->ops, node->room * sizeof *node->ops));
    }
    struct op *op = &node->ops[node->count++];
    *op = (struct op){.number = ++numbers, .resize = resize, .at = at, .len = len, .size_before = size, .size_after = size};
    if (at < size && len > 0) {
        op->old_len = (off_t)len < size - at ? len : (size_t)(size - at);
        op->old = need(malloc(op->old_len));
        read_all(node->own, op->old, op->old_len, at);
    }
    return op;
}

static void unnote(struct node *node)
{
    free(node->ops[--node->count].old);
}

// What was noted up to `number` is on the disk. While something before it is lost it must be kept, to be put back on top.
static void settle(struct node *node, uint64_t number)
{
    size_t count = 0;
    bool lost = false;
    for (; count < node->count && node->ops[count].number <= number; count++) {
        if (node->ops[count].state == LOST) lost = true;
        else node->ops[count].state = SYNCED;
    }
    if (!lost && count > 0) drop_ops(node, count);
}

static void lose(struct node *node, uint64_t number)
{
    for (size_t i = 0; i < node->count && node->ops[i].number <= number; i++)
        if (node->ops[i].state == PENDING) node->ops[i].state = LOST;
}

static void drop_backup(unsigned backup)
{
    char name[16];
    int saved = errno;
    snprintf(name, sizeof name, "%u", backup);
    if (backup) REAL(unlinkat, hidden, name, 0);
    errno = saved;
}

// The names in this folder are on the disk. NULL: in all.
static void settle_names(struct node *folder, uint64_t number)
{
    size_t left = 0;
    for (size_t i = 0; i < change_count; i++) {
        struct change *change = &changes[i];
        bool here = !folder || change->folder == folder || change->to_folder == folder;
        if (here && change->number <= number) drop_backup(change->backup);
        else changes[left++] = *change;
    }
    if (left < change_count) { change_count = left; sweep(); }
}

// Keeps a file that is about to lose its name.
static unsigned back_up(int at, const char *name, const struct stat *st)
{
    if (!strict || !S_ISREG(st->st_mode)) return 0;
    char link[16];
    snprintf(link, sizeof link, "%u", ++backups);
    if (REAL(linkat, at, name, hidden, link, 0) != 0) give_up("cannot keep a file that is removed");
    return backups;
}

static struct node *folder_at(const struct place *place)
{
    struct stat st;
    char whole[PATH_MAX];
    if (fstat(place->at, &st) != 0 || !path_of(place->at, whole)) give_up("cannot look at a folder");
    struct node *node = node_for(&st, below_root(whole) ? below_root(whole) : "");
    if (node->own < 0) node->own = REAL(fcntl, place->at, F_DUPFD_CLOEXEC, 0);
    if (node->own < 0) give_up("cannot hold a folder");
    return node;
}

static void changed(enum kind kind, const struct place *place, const struct place *to, const struct stat *st, unsigned backup)
{
    if (!strict) return;
    if (change_count == change_room) {
        change_room = change_room ? 2 * change_room : 64;
        changes = need(realloc(changes, change_room * sizeof *changes));
    }
    struct change *change = &changes[change_count++];
    *change = (struct change){.kind = kind, .number = ++numbers, .ino = st->st_ino, .mode = st->st_mode, .backup = backup};
    change->folder = folder_at(place);
    strcpy(change->name, place->name);
    if (to) {
        change->to_folder = folder_at(to);
        strcpy(change->to_name, to->name);
    }
}
