/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Tells the service manager how we are, as sd_notify(3) describes it. */

#ifndef SHELL_NOTIFY_H
#define SHELL_NOTIFY_H

/* Sends one assignment or several, each on its line ("READY=1\nSTATUS=paired"). Does nothing
 * without NOTIFY_SOCKET. */
void notify_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
