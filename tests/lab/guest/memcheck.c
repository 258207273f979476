/*
 * Copyright (c) 2026, virtops.kvm_fleet contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * memcheck MIB PAUSE_MS: does the guest's memory keep what was written to it?
 *
 * Every pass reads all words, compares them with what the pass before wrote, and writes new values. A word depends on
 * its pass and its page, so a stale page (an older pass) and a misplaced page (another page's words) both show up.
 * PAUSE_MS is slept after each MiB: it sets how fast memory is dirtied.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, STEP = 64, PAGES_PER_MIB = 256 };

static uint64_t expected(uint64_t pass, size_t page, size_t word)
{
    return pass == 0 ? 0 : (pass << 40) + (page << 12) + word;
}

/* Check and rewrite one page; return how many words were wrong, and the first wrong value. */
static unsigned check_page(uint64_t *words, uint64_t pass, size_t page, uint64_t *found)
{
    unsigned wrong = 0;

    for (size_t word = 0; word < WORDS; word += STEP) {
        if (words[word] != expected(pass, page, word)) {
            if (wrong++ == 0)
                *found = words[word];
        }
        words[word] = expected(pass + 1, page, word);
    }
    return wrong;
}

static void say(const char *line)
{
    /* One write per line, so that lines of several processes do not mix. */
    if (write(STDOUT_FILENO, line, strlen(line)) < 0)
        exit(1);
}

int main(int argc, char **argv)
{
    size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 8;
    useconds_t pause_us = argc > 2 ? strtoul(argv[2], NULL, 10) * 1000 : 0;
    size_t pages = mib * PAGES_PER_MIB;
    uint64_t *memory = aligned_alloc(PAGE, pages * PAGE);
    char line[200];

    if (memory == NULL) {
        say("memory none: the guest is too small\n");
        return 1;
    }
    memset(memory, 0, pages * PAGE);
    for (uint64_t pass = 0;; pass++) {
        unsigned wrong = 0;
        size_t first_page = 0;
        uint64_t first_found = 0;

        for (size_t page = 0; page < pages; page++) {
            uint64_t found = 0;
            unsigned here = check_page(memory + page * WORDS, pass, page, &found);

            if (here > 0 && wrong == 0) {
                first_page = page;
                first_found = found;
            }
            wrong += here;
            if (pause_us > 0 && page % PAGES_PER_MIB == PAGES_PER_MIB - 1)
                usleep(pause_us);
        }
        if (wrong > 0) {
            snprintf(line, sizeof line, "memory corrupt pass=%lu words=%u page=%lu found_pass=%lu found_page=%lu\n",
                     (unsigned long)pass, wrong, (unsigned long)first_page, (unsigned long)(first_found >> 40),
                     (unsigned long)(first_found >> 12 & 0xfffffff));
            say(line);
        } else {
            snprintf(line, sizeof line, "memory ok pass=%lu\n", (unsigned long)pass);
            if (pause_us > 0 || pass % 20 == 0)
                say(line);
        }
    }
}
