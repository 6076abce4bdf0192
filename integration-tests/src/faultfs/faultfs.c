// A layer below the file calls of a process, for tests. It is loaded by LD_PRELOAD and does two things to files below one folder:
// it forgets what was not synced, as a power cut does, and it lets chosen calls fail.
//
// HOOKLINE_FAULTFS_DIR       the folder. Names that begin with LOG, and those that end with -shm, are left alone.
// HOOKLINE_FAULTFS_CONTROL   a FIFO, made if it is missing: one command a line. Each is answered by one in CONTROL.reply: "ok ..." or
//                            "error ...".
// HOOKLINE_FAULTFS_METADATA  "keep": names (create, rename, unlink, link, mkdir, rmdir) are durable at once, as ext4 nearly has it.
//                            Otherwise they are durable after an fsync of their folder.
//
//   cut SEED [lose]          power cut: the process ends at once with 137. "lose": everything that was not synced is lost.
//   cut-at-exit SEED [lose]  the same when the process calls exit() by itself; its status is kept.
//   fail CALL PATTERN ERRNO COUNT [AFTER] [short]
//                            CALL: write fsync open rename ftruncate fallocate read. PATTERN: part of the path below the folder, or with
//                            one of *?[ a pattern for all of it. COUNT 0: until `clear`. AFTER: so many matching calls pass first.
//                            short: before each failure one write is done by half.
//   slow CALL PATTERN MS     delays.
//   clear                    removes all of these rules.
//   status                   how often a call was made to fail, and what is not synced.
//
// What a cut leaves of a file: nothing un-synced, or the first of its writes, or these and a piece of the next one, or any sectors in any
// version. What a failed fsync was to save is lost at the cut, whatever later syncs say, and readable until then.
//
// Not seen: writes to mappings, io_uring, calls that do not go through symbols of libc (its own, such as those of fopen and fwrite; raw
// system calls), O_SYNC, symbolic links, renames over the border of the folder, what an earlier process has left un-synced.

// To be compiled with this file alone, as the others are its parts: cc -std=c11 -O2 -shared -fPIC -o faultfs.so faultfs.c -lpthread

#undef _FORTIFY_SOURCE
#undef _FILE_OFFSET_BITS
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// The real calls: without libc's wrappers, so that nothing here can come back to this file.
#define REAL(name, ...) syscall(SYS_##name, __VA_ARGS__)

enum { FDS = 1 << 20, SECTOR = 512, RULES_MAX = 64, CUT_STATUS = 137 };
#define WHOLE SIZE_MAX
#define SHORT (-1)

enum state { PENDING, SYNCED, LOST };

// A change of a file's content since its last sync: a write, or a new size.
struct op {
    uint64_t number;
    enum state state;
    bool resize;
    off_t at;
    size_t len;
    off_t size_before, size_after;
    unsigned char *old; // what was there, as far as the file reached
    size_t old_len;
    unsigned char *new; // only during a cut
    size_t kept;        // only during a cut: bytes that survive
    size_t version;     // only during a cut: its place among the pending ones
};

// A file that is open or not synced, or a folder.
struct node {
    struct node *next;
    dev_t dev;
    ino_t ino;
    bool folder;
    int own;   // a descriptor of this layer; it also keeps the inode number from being used again
    int users; // descriptors of the program
    char *path;
    struct op *ops;
    size_t count, room;
};

enum kind { MADE, MADE_FOLDER, GONE, GONE_FOLDER, MOVED, SWAPPED };

// A change of a name since the last sync of its folder.
struct change {
    enum kind kind;
    uint64_t number;
    struct node *folder, *to_folder;
    char name[NAME_MAX + 1], to_name[NAME_MAX + 1];
    ino_t ino;
    mode_t mode;
    unsigned backup; // the name in the hidden folder of the file that went away; 0: none
};

enum call { WRITE, FSYNC, OPEN, RENAME, FTRUNCATE, FALLOCATE, READ, CALLS };
static const char *const call_names[CALLS] = {"write", "fsync", "open", "rename", "ftruncate", "fallocate", "read"};
static const struct { const char *name; int value; } problems[] = {{"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EROFS", EROFS}, {"EMFILE", EMFILE}};

struct rule {
    enum call call;
    char pattern[256];
    int problem; // 0: only a delay
    unsigned count, after, milliseconds;
    bool for_ever, shortens, shortened;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_len; // 0: the layer is off
static struct stat root_stat;
static int hidden = -1;
static bool strict = true;
static pid_t owner;
static _Atomic(struct node *) table[FDS];
static struct node *nodes;
static struct change *changes;
static size_t change_count, change_room;
static uint64_t numbers;
static unsigned backups;
static struct rule rules[RULES_MAX];
static atomic_uint rule_count;
static uint64_t hits;
static bool exit_cut, exit_lose;
static uint64_t exit_seed;
static int control = -1, reply = -1;

static void lock(void) { pthread_mutex_lock(&mutex); }
static void unlock(void) { pthread_mutex_unlock(&mutex); }

// A layer that has lost track would prove nothing: better no test than a wrong one.
static void give_up(const char *what)
{
    dprintf(2, "faultfs: %s: %s; the test is void\n", what, strerror(errno));
    REAL(exit_group, 99);
}

static void *need(void *memory)
{
    if (!memory) give_up("out of memory");
    return memory;
}

static void read_all(int fd, unsigned char *to, size_t len, off_t at)
{
    while (len > 0) {
        ssize_t n = REAL(pread64, fd, to, len, at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) give_up("cannot read back");
        if (n == 0) { memset(to, 0, len); return; }
        to += n, at += n, len -= n;
    }
}

static void write_all(int fd, const unsigned char *from, size_t len, off_t at)
{
    while (len > 0) {
        ssize_t n = REAL(pwrite64, fd, from, len, at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) give_up("cannot write back");
        from += n, at += n, len -= n;
    }
}

static void set_size(int fd, off_t size)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || (st.st_size != size && REAL(ftruncate, fd, size) != 0)) give_up("cannot set a size back");
}

#include "places.h"
#include "unsynced.h"
#include "cut.h"
#include "calls.h"
#include "names.h"

// ---- Commands ----

static const char *add_rule(char **words, int count, bool slow)
{
    struct rule rule = {.call = CALLS};
    if (slow && count < 4) return "error use: slow CALL PATTERN MS\n";
    if (!slow && count < 5) return "error use: fail CALL PATTERN ERRNO COUNT [AFTER] [short]\n";
    for (int i = 0; i < CALLS; i++)
        if (!strcmp(words[1], call_names[i])) rule.call = i;
    if (rule.call == CALLS) return "error the call must be write, fsync, open, rename, ftruncate, fallocate or read\n";
    if (rule_count == RULES_MAX) return "error too many rules; clear first\n";
    if (strlen(words[2]) >= sizeof rule.pattern) return "error the pattern is too long\n";
    strcpy(rule.pattern, words[2]);
    if (slow) {
        rule.milliseconds = strtoul(words[3], NULL, 10);
    } else {
        for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
            if (!strcmp(words[3], problems[i].name)) rule.problem = problems[i].value;
        if (!rule.problem) return "error the errno must be EIO, ENOSPC, EROFS or EMFILE\n";
        rule.count = strtoul(words[4], NULL, 10);
        rule.for_ever = rule.count == 0;
        for (int i = 5; i < count; i++) {
            if (!strcmp(words[i], "short")) rule.shortens = true;
            else rule.after = strtoul(words[i], NULL, 10);
        }
    }
    rules[rule_count] = rule;
    rule_count++;
    return "ok\n";
}

static void answer(const char *text)
{
    if (REAL(write, reply, text, strlen(text)) < 0) give_up("cannot answer");
}

static void obey(char *line)
{
    char *words[8] = {0}, *rest = NULL, text[200];
    int count = 0;
    for (char *word = strtok_r(line, " \n", &rest); word && count < 8; word = strtok_r(NULL, " \n", &rest)) words[count++] = word;
    bool lose_all = count > 2 && !strcmp(words[2], "lose");
    lock();
    if (count == 0) {
        answer("error an empty line\n");
    } else if (!strcmp(words[0], "cut") && count > 1) {
        cut(strtoull(words[1], NULL, 10), lose_all, text, sizeof text);
        answer(text);
        REAL(exit_group, CUT_STATUS);
    } else if (!strcmp(words[0], "cut-at-exit") && count > 1) {
        exit_cut = true, exit_lose = lose_all, exit_seed = strtoull(words[1], NULL, 10);
        answer("ok\n");
    } else if (!strcmp(words[0], "fail") || !strcmp(words[0], "slow")) {
        answer(add_rule(words, count, words[0][0] == 's'));
    } else if (!strcmp(words[0], "clear")) {
        rule_count = 0;
        answer("ok\n");
    } else if (!strcmp(words[0], "status")) {
        size_t files = 0, writes = 0;
        for (struct node *node = nodes; node; node = node->next) files += node->count > 0, writes += node->count;
        snprintf(text, sizeof text, "ok hits %llu files %zu writes %zu names %zu\n", (unsigned long long)hits, files, writes, change_count);
        answer(text);
    } else {
        answer("error use: cut, cut-at-exit, fail, slow, clear or status\n");
    }
    unlock();
}

static void *listen_to_control(void *unused)
{
    static char line[1024];
    size_t len = 0;
    for (char byte; REAL(read, control, &byte, 1) == 1;) {
        if (len < sizeof line - 1) line[len++] = byte;
        if (byte != '\n') continue;
        line[len] = 0, len = 0;
        obey(line);
    }
    return unused;
}

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("HOOKLINE_FAULTFS_DIR"), *fifo = getenv("HOOKLINE_FAULTFS_CONTROL");
    const char *metadata = getenv("HOOKLINE_FAULTFS_METADATA");
    char path[PATH_MAX + 16];
    if (!folder || !fifo) return;
    if ((mkdir(folder, 0755) != 0 && errno != EEXIST) || !realpath(folder, root)) give_up("HOOKLINE_FAULTFS_DIR is no folder");
    strict = !metadata || strcmp(metadata, "keep") != 0;
    owner = getpid();
    snprintf(path, sizeof path, "%s/.faultfs", root);
    REAL(mkdirat, AT_FDCWD, path, 0755);
    hidden = REAL(openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    // An earlier process that was killed may have left files here: their removal stands.
    DIR *list = hidden < 0 ? NULL : opendir(path);
    if (!list || stat(root, &root_stat) != 0) give_up("cannot use HOOKLINE_FAULTFS_DIR/.faultfs");
    for (struct dirent *entry; (entry = readdir(list));) REAL(unlinkat, hidden, entry->d_name, 0);
    closedir(list);
    if (mkfifo(fifo, 0600) != 0 && errno != EEXIST) give_up("cannot make HOOKLINE_FAULTFS_CONTROL");
    snprintf(path, sizeof path, "%s.reply", fifo);
    control = REAL(openat, AT_FDCWD, fifo, O_RDWR | O_CLOEXEC);
    reply = REAL(openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (control < 0 || reply < 0) give_up("cannot open HOOKLINE_FAULTFS_CONTROL or its .reply");
    // Programs that this one starts are none of ours.
    unsetenv("LD_PRELOAD");
    root_len = strlen(root);
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, listen_to_control, NULL) != 0) give_up("cannot start a thread");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

__attribute__((destructor)) static void end(void)
{
    char text[200];
    if (!exit_cut || getpid() != owner) return;
    // For good: nothing may be written after the cut.
    lock();
    cut(exit_seed, exit_lose, text, sizeof text);
    answer(text);
}
