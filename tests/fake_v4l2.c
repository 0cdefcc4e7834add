/* A webcam in the C library: preloaded, it answers for /dev/video0 as a V4L2 driver does, so that OpenCV's own driver runs.
 *
 * FAKE_V4L2 names a folder with 640x480.jpg and 1280x720.jpg, what the camera films. FAKE_V4L2_GONE=N unplugs it after N
 * pictures. Formats: YUYV up to 640x480 at 30 fps and 1280x720 at 10; MJPG at 30. A picture travels from one tick of a timer
 * to the next; as on USB it is lost unless a buffer waits for it when it sets out.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define BUFFERS 10
#define BUFFER_BYTES (1280 * 720 * 2)
enum { FREE, QUEUED, FILLING, DONE };

static int camera = -1, streaming, gone_after = -1, pictures, turn;
static uint32_t format = V4L2_PIX_FMT_YUYV, width = 640, height = 480, fps = 30, count;
static struct { int state, order; uint32_t used; void *memory; } buffers[BUFFERS];
static unsigned char jpeg[BUFFER_BYTES];
static size_t jpeg_bytes;

static int fail(int error) { errno = error; return -1; }

static void load(void) {
    char path[512];
    snprintf(path, sizeof path, "%s/%ux%u.jpg", getenv("FAKE_V4L2"), width, height);
    FILE *file = fopen(path, "rb");
    jpeg_bytes = file ? fread(jpeg, 1, sizeof jpeg, file) : 0;
    if (file) fclose(file);
}

static void settle(struct v4l2_pix_format *pix) {
    format = pix->pixelformat == V4L2_PIX_FMT_MJPEG ? V4L2_PIX_FMT_MJPEG : V4L2_PIX_FMT_YUYV;
    width = pix->width > 960 ? 1280 : 640;
    height = width == 1280 ? 720 : 480;
    fps = format == V4L2_PIX_FMT_YUYV && width == 1280 ? 10 : 30;
    load();
}

static void describe(struct v4l2_pix_format *pix) {
    *pix = (struct v4l2_pix_format){.width = width, .height = height, .pixelformat = format, .field = V4L2_FIELD_NONE,
        .bytesperline = format == V4L2_PIX_FMT_YUYV ? width * 2 : 0, .sizeimage = BUFFER_BYTES};
}

static int oldest(int state) {
    int found = -1;
    for (uint32_t i = 0; i < count; i++)
        if (buffers[i].state == state && (found < 0 || buffers[i].order < buffers[found].order)) found = (int)i;
    return found;
}

/* What happened since the last look: at each tick one picture has arrived, and the next one sets out. */
static void film(void) {
    uint64_t ticks = 0;
    if (!streaming || read(camera, &ticks, sizeof ticks) != sizeof ticks) return;
    while (ticks--) {
        int here = oldest(FILLING), next;
        if (here >= 0 && format == V4L2_PIX_FMT_MJPEG) {
            memcpy(buffers[here].memory, jpeg, jpeg_bytes);
            buffers[here].used = (uint32_t)jpeg_bytes;
        } else if (here >= 0) {
            memset(buffers[here].memory, 128, width * height * 2);
            buffers[here].used = width * height * 2;
        }
        if (here >= 0) {
            buffers[here].state = DONE;
            buffers[here].order = turn++;
            pictures++;
        }
        next = oldest(QUEUED);
        if (next >= 0) buffers[next].state = FILLING;
    }
}

static void arm(int on) {
    long step_ns = on ? 1000000000L / fps : 0;
    struct itimerspec times = {{0, step_ns}, {0, step_ns}};
    timerfd_settime(camera, 0, &times, NULL);
    streaming = on;
}

static int answer(unsigned long request, void *data) {
    if (gone_after >= 0 && pictures >= gone_after) return fail(ENODEV);
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *told = data;
        memset(told, 0, sizeof *told);
        strcpy((char *)told->driver, "uvcvideo");
        strcpy((char *)told->card, "Preloaded Webcam");
        told->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        told->capabilities = told->device_caps | V4L2_CAP_DEVICE_CAPS | V4L2_CAP_META_CAPTURE;
        return 0;
    }
    case VIDIOC_S_FMT:
        if (streaming || count) return fail(EBUSY);
        settle(&((struct v4l2_format *)data)->fmt.pix);
        /* fall through */
    case VIDIOC_G_FMT:
        describe(&((struct v4l2_format *)data)->fmt.pix);
        return 0;
    case VIDIOC_S_PARM: {
        uint32_t asked = ((struct v4l2_streamparm *)data)->parm.capture.timeperframe.denominator;
        uint32_t most = format == V4L2_PIX_FMT_YUYV && width == 1280 ? 10 : 30;
        if (streaming) return fail(EBUSY);
        fps = asked && asked < most ? asked : most;
    } /* fall through */
    case VIDIOC_G_PARM:
        ((struct v4l2_streamparm *)data)->parm.capture.timeperframe = (struct v4l2_fract){1, fps};
        return 0;
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *wanted = data;
        count = wanted->count = wanted->count > BUFFERS ? BUFFERS : wanted->count;
        for (int i = 0; i < BUFFERS; i++) buffers[i].state = FREE;
        return 0;
    }
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *buffer = data;
        buffer->length = BUFFER_BYTES;
        buffer->m.offset = buffer->index * BUFFER_BYTES;
        return buffer->index < count ? 0 : fail(EINVAL);
    }
    case VIDIOC_QBUF: {
        struct v4l2_buffer *buffer = data;
        if (buffer->index >= count || buffers[buffer->index].state != FREE) return fail(EINVAL);
        film();
        buffers[buffer->index].state = QUEUED;
        buffers[buffer->index].order = turn++;
        return 0;
    }
    case VIDIOC_DQBUF: {
        struct v4l2_buffer *buffer = data;
        int full;
        if (!streaming) return fail(EINVAL);
        film();
        full = oldest(DONE);
        if (full < 0) return fail(EAGAIN);
        buffers[full].state = FREE;
        buffer->index = (uint32_t)full;
        buffer->bytesused = buffers[full].used;
        buffer->length = BUFFER_BYTES;
        return 0;
    }
    case VIDIOC_STREAMON: arm(1); return 0;
    case VIDIOC_STREAMOFF: arm(0); return 0;
    }
    return fail(EINVAL);
}

static int open_any(const char *path, int flags, mode_t mode, const char *real) {
    if (strcmp(path, "/dev/video0")) {
        int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, real);
        return next(path, flags, mode);
    }
    if (camera >= 0) return fail(EBUSY);
    if (getenv("FAKE_V4L2_GONE")) gone_after = atoi(getenv("FAKE_V4L2_GONE"));
    load();
    return camera = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = mode_of(flags, rest); \
        va_end(rest); \
        return open_any(path, flags, mode, #name); \
    }
OPEN(open)
OPEN(open64)

int close(int file) {
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "close");
    if (file == camera && file >= 0) {
        streaming = 0;
        count = 0;
        camera = -1;
    }
    return next(file);
}

int ioctl(int file, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *data = va_arg(rest, void *);
    va_end(rest);
    if (file == camera && file >= 0) return answer((uint32_t)request, data);
    int (*next)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    return next(file, request, data);
}

static void *map_any(void *where, size_t bytes, int rights, int flags, int file, off_t offset, const char *real) {
    void *(*next)(void *, size_t, int, int, int, off_t) =
        (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, real);
    if (file != camera || file < 0) return next(where, bytes, rights, flags, file, offset);
    return buffers[offset / BUFFER_BYTES].memory =
        next(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

void *mmap(void *where, size_t bytes, int rights, int flags, int file, off_t offset) {
    return map_any(where, bytes, rights, flags, file, offset, "mmap");
}

void *mmap64(void *where, size_t bytes, int rights, int flags, int file, off_t offset) {
    return map_any(where, bytes, rights, flags, file, offset, "mmap64");
}
