/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Gives every file of a corpus directory to a fuzz target once: so that a build without libFuzzer
 * still shows that what was found before stays fixed. It never changes an input, and an empty
 * corpus is a failure. */

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_LIMIT = 1 << 20, FILE_LIMIT = 100000 };

static int replay(const char *directory, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 0;
    }
    /* A buffer of just the input's size lets a sanitizer see a read past its end. */
    uint8_t *whole = malloc(INPUT_LIMIT);
    size_t size = whole ? fread(whole, 1, INPUT_LIMIT, file) : 0;
    fclose(file);
    uint8_t *exact = malloc(size > 0 ? size : 1);
    if (!whole || !exact)
        abort();
    for (size_t i = 0; i < size; i++)
        exact[i] = whole[i];
    free(whole);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS-DIRECTORY\n", argv[0]);
        return 2;
    }
    DIR *directory = opendir(argv[1]);
    if (!directory) {
        perror(argv[1]);
        return 1;
    }
    int count = 0;
    for (int i = 0; i < FILE_LIMIT; i++) {
        struct dirent *entry = readdir(directory);
        if (!entry)
            break;
        if (entry->d_name[0] != '.')
            count += replay(argv[1], entry->d_name);
    }
    closedir(directory);
    printf("%d inputs replayed\n", count);
    return count > 0 ? 0 : 1;
}
