// Tests of faultfs.c: ./selftest PATH/faultfs.so. Each story runs in a child that loads the layer, works, and has its power cut; then
// its files are looked at. Ends with 0, or with 1 and a line for each thing that is wrong.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int wrong;
static const char *story;
#define CHECK(what) ((what) ? (void)0 : complain(__LINE__, #what))

static void complain(int line, const char *what)
{
    wrong++;
    fprintf(stderr, "%s: line %d: not so: %s (errno %d)\n", story, line, what, errno);
}

// ---- In the child ----

static int answers;

// Sends a command and waits for its answer. After a cut nothing comes back.
static bool command(const char *text)
{
    char path[300], all[65536];
    int fifo = open(getenv("HOOKLINE_FAULTFS_CONTROL"), O_WRONLY);
    dprintf(fifo, "%s\n", text);
    close(fifo);
    snprintf(path, sizeof path, "%s.reply", getenv("HOOKLINE_FAULTFS_CONTROL"));
    answers++;
    for (;; usleep(500)) {
        int fd = open(path, O_RDONLY);
        ssize_t len = fd < 0 ? 0 : read(fd, all, sizeof all - 1);
        close(fd);
        all[len > 0 ? len : 0] = 0;
        char *line = all;
        for (int i = 1; line && i < answers; i++) line = (line = strchr(line, '\n')) ? line + 1 : NULL;
        if (line && strchr(line, '\n')) return !strncmp(line, "ok", 2);
    }
}

static int put(const char *path, int flags, const char *text)
{
    int fd = open(path, flags, 0644);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    return fd;
}

static void sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0 && fsync(fd) == 0 && close(fd) == 0);
}

static void durable(const char *path, const char *text)
{
    int fd = put(path, O_CREAT | O_WRONLY, text);
    CHECK(fsync(fd) == 0 && close(fd) == 0);
    sync_folder(".");
}

static void child_lose(void)
{
    durable("append", "durable,");
    durable("overwrite", "0123456789");
    durable("truncated", "0123456789");
    durable("grown", "0123456789");
    durable("emptied", "0123456789");
    durable("punched", "0123456789");
    durable("removed", "0123456789");
    durable("target", "old");
    durable("swapped", "kept");
    durable("LOG", "");
    mkdir("gone", 0755);
    sync_folder(".");
    int fd = put("append", O_WRONLY | O_APPEND, "lost");
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 100);
    close(fd);
    CHECK(write(copy, "lost too", 8) == 8 && close(copy) == 0);
    fd = open("overwrite", O_RDWR);
    struct iovec parts[] = {{"ab", 2}, {"cd", 2}};
    CHECK(pwrite(fd, "XYZ", 3, 8) == 3 && pwritev(fd, parts, 2, 1) == 4 && writev(fd, parts, 2) == 4 && close(fd) == 0);
    fd = open("truncated", O_RDWR);
    CHECK(ftruncate(fd, 4) == 0 && pwrite(fd, "zz", 2, 2) == 2 && close(fd) == 0);
    fd = open("grown", O_RDWR);
    CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 8192) == 0 && posix_fallocate(fd, 0, 4096) == 0);
    CHECK(pwrite(fd, "z", 1, 9000) == 1 && close(fd) == 0);
    close(put("emptied", O_WRONLY | O_TRUNC, "new"));
    fd = open("punched", O_RDWR);
    CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 2, 100) == 0 && close(fd) == 0);
    CHECK(unlink("removed") == 0);
    durable("source", "new");
    CHECK(rename("source", "target") == 0 && rename("swapped", "swapped-2") == 0 && rmdir("gone") == 0);
    // Nobody has synced the folder since, so this name is lost, although its content is safe.
    fd = put("nameless", O_CREAT | O_RDWR, "content");
    CHECK(fsync(fd) == 0 && close(fd) == 0);
    CHECK(mkdir("folder", 0755) == 0 && close(put("folder/file", O_CREAT | O_WRONLY, "x")) == 0);
    CHECK(close(put("LOG", O_WRONLY, "log")) == 0);
    command("cut 1 lose");
}

// 100 records of 100 bytes, the first 50 synced, the rest written over older bytes or not.
static void child_records(void)
{
    char record[100], older[8000];
    memset(older, 'o', sizeof older);
    int fd = open("records", O_CREAT | O_RDWR, 0644);
    if (getenv("OLDER")) CHECK(write(fd, older, sizeof older) == sizeof older);
    CHECK(fsync(fd) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    sync_folder(".");
    for (int i = 0; i < 100; i++) {
        memset(record, 'A' + i % 50, sizeof record);
        CHECK(write(fd, record, sizeof record) == sizeof record);
        if (i == 49) CHECK(fdatasync(fd) == 0);
    }
    command(getenv("CUT"));
}

static void child_failed_sync(void)
{
    char text[16] = {0};
    durable("file", "AAAA");
    int fd = open("file", O_RDWR), other = open("file", O_RDWR);
    CHECK(command("fail fsync file EIO 1"));
    CHECK(pwrite(fd, "aa", 2, 1) == 2 && pwrite(fd, "BBBB", 4, 4) == 4);
    CHECK(fsync(fd) == -1 && errno == EIO);
    CHECK(pwrite(fd, "CCCC", 4, 8) == 4);
    CHECK(fsync(other) == 0 && fsync(fd) == 0);
    CHECK(pread(other, text, 15, 0) == 12 && !strcmp(text, "AaaABBBBCCCC"));
    CHECK(pwrite(fd, "DDDD", 4, 12) == 4);
    command("cut 1 lose");
}

static void child_failures(void)
{
    char byte, text[128] = {0};
    int fd = put("sub.log", O_CREAT | O_RDWR, "");
    CHECK(command("fail write *.log ENOSPC 1 2 short"));
    CHECK(write(fd, "1111", 4) == 4 && write(fd, "2222", 4) == 4);
    CHECK(write(fd, "3333", 4) == 2 && write(fd, "33", 2) == -1 && errno == ENOSPC);
    CHECK(write(fd, "4444", 4) == 4 && pread(fd, text, 100, 0) == 14 && !strcmp(text, "11112222334444"));
    CHECK(command("fail open other EMFILE 2") && command("fail rename sub EROFS 1") && command("fail ftruncate sub EIO 1"));
    CHECK(open("other", O_CREAT | O_RDWR, 0644) == -1 && errno == EMFILE && open("other", O_RDONLY) == -1 && errno == EMFILE);
    CHECK(open("other", O_RDONLY) == -1 && errno == ENOENT);
    CHECK(rename("x", "sub.log") == -1 && errno == EROFS && rename("sub.log", "sub.log2") == 0 && rename("sub.log2", "sub.log") == 0);
    CHECK(ftruncate(fd, 0) == -1 && errno == EIO && ftruncate(fd, 3) == 0);
    CHECK(command("fail fallocate sub ENOSPC 0") && command("fail read sub EIO 0"));
    for (int i = 0; i < 5; i++) CHECK(fallocate(fd, 0, 0, 10) == -1 && errno == ENOSPC && posix_fallocate(fd, 0, 10) == ENOSPC);
    CHECK(pread(fd, &byte, 1, 0) == -1 && errno == EIO && read(fd, &byte, 1) == -1);
    CHECK(command("clear"));
    CHECK(pread(fd, &byte, 1, 0) == 1 && fallocate(fd, 0, 0, 10) == 0);
    CHECK(command("slow fsync sub 120"));
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    CHECK(fsync(fd) == 0);
    clock_gettime(CLOCK_MONOTONIC, &to);
    CHECK((to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000 >= 120);
    CHECK(!command("fail nothing x EIO 1") && !command("fail write x EPERM 1") && !command("nonsense") && command("status"));
    // A descriptor that libc closes by itself must not be taken for the file when its number comes again.
    FILE *stream = fdopen(dup(fd), "r");
    int number = fileno(stream), ends[2];
    fclose(stream);
    CHECK(pipe(ends) == 0 && (ends[0] == number || ends[1] == number) && write(ends[1], "x", 1) == 1 && read(ends[0], &byte, 1) == 1);
    exit(wrong ? 1 : 7);
}

static void child_keep(void)
{
    durable("removed", "0123456789");
    close(put("made", O_CREAT | O_WRONLY, "lost"));
    CHECK(unlink("removed") == 0);
    command("cut 1 lose");
}

static void child_exit(void)
{
    durable("file", "durable");
    close(put("file", O_WRONLY | O_APPEND, "lost"));
    CHECK(command("cut-at-exit 1 lose"));
    exit(wrong ? 1 : 74);
}

// A folder that is renamed and used again, and names that depend on each other.
static void child_names(void)
{
    CHECK(mkdir("store", 0755) == 0);
    sync_folder(".");
    close(put("store/a", O_CREAT | O_WRONLY, "a"));
    sync_folder("store");
    CHECK(rename("store/a", "store/b") == 0 && link("store/b", "store/c") == 0);
    CHECK(rename("store", "aside") == 0 && mkdir("store", 0755) == 0);
    close(put("store/new", O_CREAT | O_WRONLY, "new"));
    sync_folder("store");
    CHECK(unlink("aside/b") == 0 && unlink("aside/c") == 0 && rmdir("aside") == 0);
    command("cut 1 lose");
}

enum { THREADS = 4 };

// Writes numbers, syncs, and says outside the folder which are safe.
static void *write_numbers(void *which)
{
    char path[64];
    snprintf(path, sizeof path, "numbers-%ld", (long)which);
    int fd = open(path, O_CREAT | O_RDWR | O_APPEND, 0644);
    snprintf(path, sizeof path, "../safe-%ld", (long)which);
    int safe = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    sync_folder(".");
    for (int number = 0;; number++) {
        if (write(fd, &number, sizeof number) != sizeof number) return NULL;
        if (number % 3 == 0 && (fdatasync(fd) != 0 || pwrite(safe, &number, sizeof number, 0) != sizeof number)) return NULL;
    }
}

static void child_threads(void)
{
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, write_numbers, (void *)i);
    usleep(60000);
    command(getenv("CUT"));
}

// ---- In the parent ----

static char folder[] = "/tmp/faultfs-selftest-XXXXXX", program[4096], library[4096];

static bool holds(const char *name, const char *text)
{
    char path[512], all[20000];
    snprintf(path, sizeof path, "%s/data/%s", folder, name);
    int fd = open(path, O_RDONLY);
    ssize_t len = fd < 0 ? -1 : read(fd, all, sizeof all - 1);
    close(fd);
    if (len < 0) return !text;
    all[len] = 0;
    if (text && (strlen(text) != (size_t)len || strcmp(all, text))) fprintf(stderr, "%s: %s holds %zd bytes: %s\n", story, name, len, all);
    return text && strlen(text) == (size_t)len && !strcmp(all, text);
}

// Runs a story in a fresh folder, and checks what it ended with.
static void run(const char *name, int status_wanted, const char *variable, const char *value, const char *cut)
{
    char path[512], text[600];
    int status = 0;
    story = name;
    snprintf(text, sizeof text, "rm -rf %s/*", folder);
    CHECK(system(text) == 0);
    snprintf(path, sizeof path, "%s/data", folder);
    CHECK(mkdir(path, 0755) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        setenv("LD_PRELOAD", library, 1);
        setenv("HOOKLINE_FAULTFS_DIR", path, 1);
        snprintf(text, sizeof text, "%s/control", folder);
        setenv("HOOKLINE_FAULTFS_CONTROL", text, 1);
        if (variable && value) setenv(variable, value, 1);
        if (cut) setenv("CUT", cut, 1);
        if (chdir(path) == 0) execl(program, program, "--child", name, (char *)NULL);
        _exit(98);
    }
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != status_wanted) {
        wrong++;
        fprintf(stderr, "%s: ended with %d, signal %d\n", story, WEXITSTATUS(status), WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
}

static void check_lose(void)
{
    run("lose", 137, NULL, NULL, NULL);
    CHECK(holds("append", "durable,"));
    CHECK(holds("overwrite", "0123456789"));
    CHECK(holds("truncated", "0123456789"));
    CHECK(holds("grown", "0123456789"));
    CHECK(holds("emptied", "0123456789"));
    CHECK(holds("punched", "0123456789"));
    CHECK(holds("target", "old"));
    CHECK(holds("source", "new"));
    CHECK(holds("removed", NULL)); // synced together with the making of "source"
    CHECK(holds("swapped", "kept") && holds("swapped-2", NULL));
    CHECK(holds("nameless", NULL) && holds("folder/file", NULL));
    CHECK(holds("LOG", "log"));
    char path[512];
    snprintf(path, sizeof path, "%s/data/gone", folder);
    CHECK(access(path, F_OK) == 0);
}

// What may be there behind the 50 durable records: their bytes, what was before, or zeros.
static void check_records(const char *older)
{
    int nothing = 0, everything = 0, at_sector = 0, at_byte = 0, holes = 0;
    for (int seed = 1; seed <= 120; seed++) {
        char cut[32], path[512], all[20000];
        snprintf(cut, sizeof cut, "cut %d", seed);
        run("records", 137, "OLDER", older, cut);
        snprintf(path, sizeof path, "%s/data/records", folder);
        int fd = open(path, O_RDONLY);
        ssize_t len = read(fd, all, sizeof all), base = older ? 8000 : 5000, last = 5000;
        close(fd);
        CHECK(len >= base && len <= 10000);
        bool hole = false, other = false;
        for (ssize_t i = 0; i < len; i++) {
            bool new = all[i] == 'A' + i / 100 % 50, old = i < base && i >= 5000 && all[i] == 'o', zero = i >= base && all[i] == 0;
            if (!new && (i < 5000 || (!old && !zero))) { CHECK(!"a byte is neither new nor old"); break; }
            if (new && other) hole = true;
            if (new) last = i + 1;
            else other = true;
        }
        nothing += last == 5000, everything += last == 10000 && !other, holes += hole;
        at_sector += last % 512 == 0, at_byte += last % 512 != 0 && last % 100 != 0;
    }
    printf("120 cuts%s: nothing kept %d, everything %d, ", older ? " over older bytes" : "", nothing, everything);
    printf("torn at a sector %d, at a byte %d, with holes %d\n", at_sector, at_byte, holes);
    CHECK(nothing > 10 && everything > 0 && at_sector > 3 && at_byte > 3 && holes > 3);
}

static void check_threads(void)
{
    long checked = 0;
    for (int seed = 1; seed <= 20; seed++) {
        char cut[32], path[512];
        snprintf(cut, sizeof cut, "cut %d", seed);
        run("threads", 137, NULL, NULL, cut);
        for (int i = 0; i < THREADS; i++) {
            int safe = -1, number;
            snprintf(path, sizeof path, "%s/safe-%d", folder, i);
            int fd = open(path, O_RDONLY);
            CHECK(read(fd, &safe, sizeof safe) == sizeof safe);
            close(fd);
            snprintf(path, sizeof path, "%s/data/numbers-%d", folder, i);
            fd = open(path, O_RDONLY);
            for (int next = 0; next <= safe; next++, checked++)
                if (read(fd, &number, sizeof number) != sizeof number || number != next) { CHECK(!"a safe number is lost"); break; }
            close(fd);
        }
    }
    printf("20 cuts under 4 threads: %ld safe numbers, all there\n", checked);
    CHECK(checked > 1000);
}

int main(int count, char **arguments)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } children[] = {
        {"lose", child_lose}, {"records", child_records}, {"failed-sync", child_failed_sync}, {"failures", child_failures},
        {"keep", child_keep}, {"exit", child_exit},       {"names", child_names},             {"threads", child_threads},
    };
    if (count == 3 && !strcmp(arguments[1], "--child")) {
        for (size_t i = 0; i < sizeof children / sizeof *children; i++)
            if (!strcmp(children[i].name, story = arguments[2])) children[i].run();
        return 97; // a cut does not come back
    }
    if (count != 2 || !realpath(arguments[1], library) || readlink("/proc/self/exe", program, sizeof program - 1) < 0 || !mkdtemp(folder)) {
        fprintf(stderr, "use: selftest PATH/faultfs.so\n");
        return 1;
    }
    check_lose();
    check_records(NULL);
    check_records("1");
    run("failed-sync", 137, NULL, NULL, NULL);
    char text[] = "AAAA....CCCC";
    memset(text + 4, 0, 4);
    char path[512], all[64];
    snprintf(path, sizeof path, "%s/data/file", folder);
    int fd = open(path, O_RDONLY);
    CHECK(read(fd, all, sizeof all) == 12 && !memcmp(all, text, 12));
    close(fd);
    run("failures", 7, NULL, NULL, NULL);
    run("keep", 137, "HOOKLINE_FAULTFS_METADATA", "keep", NULL);
    CHECK(holds("made", "") && holds("removed", NULL));
    run("exit", 74, NULL, NULL, NULL);
    CHECK(holds("file", "durable"));
    run("names", 137, NULL, NULL, NULL);
    CHECK(holds("store/a", "") && holds("store/b", NULL) && holds("store/new", NULL) && holds("aside/b", NULL));
    check_threads();
    snprintf(all, sizeof all, "rm -rf %s", folder);
    CHECK(system(all) == 0);
    printf(wrong ? "%d wrong\n" : "all as it should be\n", wrong);
    return wrong ? 1 : 0;
}
