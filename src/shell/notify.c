/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* One datagram to the socket that NOTIFY_SOCKET names. Never waits, and ignores a manager that does
 * not listen. */

#include "shell/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_say(const char *format, ...)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof where.sun_path)
        return;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length <= 0 || (size_t)length >= sizeof text)
        return;
    memcpy(where.sun_path, path, strlen(path));
    if (path[0] == '@')
        where.sun_path[0] = '\0'; /* the abstract name space */
    int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    if (sendto(descriptor, text, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL,
               (struct sockaddr *)&where, size) < 0)
        fprintf(stderr, "holdfast: the service manager does not listen at %s\n", path);
    close(descriptor);
}
