/*
 * Copyright (c) 2026, virtops.kvm_fleet contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tick SECONDS ID [online]: does the guest run on? Counts on, says so and sleeps, for ever.
 *
 * A program of its own, as a shell makes a process for each pause, which is what keeps an emulated CPU busy most. With
 * `online` it brings vCPUs that were plugged online, which a kernel without udev does not do.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_CPUS = 512 };

/* Read the first word of a file into `word`, which is empty if there is none. */
static void read_word(const char *path, char *word, size_t size)
{
    int file = open(path, O_RDONLY);
    ssize_t length = file < 0 ? 0 : read(file, word, size - 1);

    if (file >= 0)
        close(file);
    word[length < 0 ? 0 : length] = '\0';
    word[strcspn(word, " \n")] = '\0';
}

static void bring_online(void)
{
    for (int cpu = 1; cpu < MOST_CPUS; cpu++) {
        char path[80], state[8];
        int file;

        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/online", cpu);
        read_word(path, state, sizeof state);
        if (strcmp(state, "0") != 0)
            continue;
        file = open(path, O_WRONLY);
        if (file < 0)
            continue;
        if (write(file, "1", 1) < 0)
            perror(path);
        close(file);
    }
}

int main(int argc, char **argv)
{
    useconds_t pause_us;

    if (argc < 3)
        return 1;
    pause_us = (useconds_t)(strtod(argv[1], NULL) * 1e6);
    for (unsigned long number = 1;; number++) {
        char up[32], cpus[64], line[200];

        read_word("/proc/uptime", up, sizeof up);
        read_word("/sys/devices/system/cpu/online", cpus, sizeof cpus);
        snprintf(line, sizeof line, "tick %lu up=%s cpus=%s id=%s\n", number, up, cpus, argv[2]);
        /* One write per line, so that lines of several processes do not mix. */
        if (write(STDOUT_FILENO, line, strlen(line)) < 0)
            return 1;
        if (argc > 3)
            bring_online();
        usleep(pause_us);
    }
}
