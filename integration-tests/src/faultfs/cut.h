// The cut: what is left of the un-synced. Under the lock.

static uint64_t random_state;

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t below(uint64_t bound) { return mix(random_state += 0x9e3779b97f4a7c15u) % bound; }

enum fate { LOSE, PREFIX, TEAR, SECTORS, FATES };

// How many of the writes a sector has seen: none, all, or any number.
static size_t sector_version(uint64_t salt, off_t sector, size_t pending)
{
    uint64_t x = mix(salt ^ mix(sector + 1));
    return x % 4 == 0 ? 0 : x % 4 == 1 ? x / 4 % (pending + 1) : pending;
}

static size_t torn(const struct op *op)
{
    size_t kept = op->len > 1 ? below(op->len) : 0;
    size_t beyond = (op->at + kept) % SECTOR;
    if (below(2)) kept = kept > beyond ? kept - beyond : 0;
    return kept;
}

static void redo(const struct node *node, const struct op *op, bool sectors, uint64_t salt, size_t pending)
{
    if (op->resize) {
        if (op->kept) set_size(node->own, op->size_after);
        return;
    }
    if (!sectors || op->state != PENDING) return write_all(node->own, op->new, op->kept == WHOLE ? op->len : op->kept, op->at);
    for (size_t from = 0, len; from < op->len; from += len) {
        len = SECTOR - (op->at + from) % SECTOR;
        if (len > op->len - from) len = op->len - from;
        if (op->version < sector_version(salt, (op->at + from) / SECTOR, pending)) write_all(node->own, op->new + from, len, op->at + from);
    }
}

// Leaves of the un-synced writes what `fate` says; how many survive whole.
static size_t cut_file(struct node *node, enum fate fate)
{
    size_t pending = 0, first = node->count, survived = 0;
    for (size_t i = 0; i < node->count; i++) pending += node->ops[i].state == PENDING;
    size_t keep = fate == PREFIX || fate == TEAR ? below(pending + 1) : 0, version = 0;
    for (size_t i = 0; i < node->count; i++) {
        struct op *op = &node->ops[i];
        op->kept = op->state == SYNCED ? WHOLE : 0;
        if (op->state == PENDING) {
            op->version = version++;
            if (op->version < keep) op->kept = WHOLE;
            else if (fate == TEAR && op->version == keep && !op->resize) op->kept = torn(op);
            // Here it says only that the new bytes are needed; of new sizes one half takes place.
            else if (fate == SECTORS) op->kept = op->resize ? below(2) : 1;
            survived += op->kept == WHOLE;
        }
        if (op->kept != WHOLE && first == node->count) first = i;
    }
    if (first == node->count) return survived;
    off_t full = node->ops[node->count - 1].size_after;
    for (size_t i = node->count; i-- > first;) {
        struct op *op = &node->ops[i];
        if (op->kept && !op->resize) {
            op->new = need(malloc(op->len));
            read_all(node->own, op->new, op->len, op->at);
        }
        set_size(node->own, op->size_before);
        write_all(node->own, op->old, op->old_len, op->at);
    }
    uint64_t salt = fate == SECTORS ? below(UINT64_MAX) : 0;
    for (size_t i = first; i < node->count; i++)
        if (node->ops[i].kept) redo(node, &node->ops[i], fate == SECTORS, salt, pending);
    // A file may have its new size before it has its new content.
    struct stat st;
    if (fate == SECTORS && fstat(node->own, &st) == 0 && st.st_size < full && below(2)) set_size(node->own, full);
    return survived;
}

static void undo_change(struct change *change)
{
    int at = change->folder->own, to = change->to_folder ? change->to_folder->own : -1;
    char backup[40];
    struct stat st;
    snprintf(backup, sizeof backup, "%u", change->backup);
    switch (change->kind) {
    case MADE:
        if (fstatat(at, change->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == change->ino) REAL(unlinkat, at, change->name, 0);
        break;
    case MADE_FOLDER:
        // With something durable in it: nobody finds the way there any more.
        if (REAL(unlinkat, at, change->name, AT_REMOVEDIR) != 0 && errno == ENOTEMPTY) {
            snprintf(backup, sizeof backup, "lost-%d-%u", (int)owner, ++backups);
            REAL(renameat2, at, change->name, hidden, backup, 0);
        }
        break;
    case GONE: REAL(renameat2, hidden, backup, at, change->name, 0); break;
    case GONE_FOLDER:
        if (REAL(mkdirat, at, change->name, change->mode & 07777) == 0) {
            // Older changes in it find the new one.
            struct node *node = find_node(change->folder->dev, change->ino);
            int folder = REAL(openat, at, change->name, O_PATH | O_DIRECTORY | O_CLOEXEC);
            if (node && node->folder && node->own >= 0) REAL(dup3, folder, node->own, O_CLOEXEC);
        }
        break;
    case MOVED:
        REAL(renameat2, to, change->to_name, at, change->name, 0);
        if (change->backup) REAL(renameat2, hidden, backup, to, change->to_name, 0);
        break;
    case SWAPPED: REAL(renameat2, to, change->to_name, at, change->name, RENAME_EXCHANGE); break;
    }
}

static void cut(uint64_t seed, bool lose_all, char *summary, size_t room)
{
    size_t files = 0, writes = 0, survived = 0;
    random_state = seed;
    lose_all = below(4) == 0 || lose_all;
    for (struct node *node = nodes; node; node = node->next) {
        if (node->folder || node->count == 0) continue;
        files++, writes += node->count;
        survived += cut_file(node, lose_all ? LOSE : below(FATES));
    }
    // Names as a journal has them: the first so many, in their order.
    uint64_t kind = below(3);
    size_t keep = lose_all || kind == 0 ? 0 : kind == 1 ? change_count : below(change_count + 1);
    for (size_t i = change_count; i-- > 0;) {
        if (i < keep) drop_backup(changes[i].backup);
        else undo_change(&changes[i]);
    }
    const char *form = "ok cut files %zu writes %zu survived %zu names %zu survived %zu\n";
    snprintf(summary, room, form, files, writes, survived, change_count, keep);
}
