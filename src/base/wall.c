/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The Gregorian calendar, forwards from 1970. Its years repeat after 400 of them, so the loop over
 * years is short for every number, which may come from another array. */

#include "base/wall.h"

#include <stdbool.h>
#include <stdio.h>

enum { DAY_S = 86400, YEARS_400_DAYS = 400 * 365 + 97 };

static bool is_leap(uint64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static unsigned month_days(uint64_t year, unsigned month)
{
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month] + (month == 1 && is_leap(year));
}

void wall_text(char text[WALL_TEXT], uint64_t wall_us)
{
    uint64_t seconds = wall_us / 1000000, days = seconds / DAY_S;
    unsigned second = (unsigned)(seconds % DAY_S), month = 0;
    uint64_t year = 1970 + days / YEARS_400_DAYS * 400;
    days %= YEARS_400_DAYS;
    for (; days >= 365u + is_leap(year); year++)
        days -= 365u + is_leap(year);
    for (; days >= month_days(year, month); month++)
        days -= month_days(year, month);
    snprintf(text, WALL_TEXT, "%04llu-%02u-%02uT%02u:%02u:%02uZ", (unsigned long long)year,
             month + 1, (unsigned)days + 1, second / 3600, second / 60 % 60, second % 60);
}
