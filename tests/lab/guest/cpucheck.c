/*
 * Copyright (c) 2026, virtops.kvm_fleet contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * cpucheck PAUSE_S: does the guest's CPU stay what it was?
 *
 * Every PAUSE_S seconds the instruction itself is asked what the CPU is: /proc/cpuinfo tells for ever what it was at
 * boot. A digest of the answers and the vendor go to the serial port. What differs between the vCPUs of one guest, or
 * says what the kernel has switched on, is left out.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EAX, EBX, ECX, EDX, REGISTERS };

struct leaf {
    uint32_t leaf, subleaf;
    uint32_t left_out[REGISTERS];
};

static const struct leaf LEAVES[] = {
    {0x0, 0, {0}},
    {0x1, 0, {[EBX] = 0xff000000, [ECX] = 1u << 27}}, /* APIC ID; OSXSAVE */
    {0x6, 0, {0}},
    {0x7, 0, {[ECX] = 1u << 4}}, /* OSPKE */
    {0x7, 1, {0}},
    {0xd, 0, {[EBX] = 0xffffffff}}, /* size of the components that are switched on */
    {0xd, 1, {[EBX] = 0xffffffff}},
    {0x80000000, 0, {0}},
    {0x80000001, 0, {0}},
    {0x80000007, 0, {0}},
    {0x80000008, 0, {0}},
};
enum { XSAVE_LEAF = 0xd, XSAVE_FIRST = 2, XSAVE_END = 32 };

static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t *answer)
{
    __asm__ volatile("cpuid"
                     : "=a"(answer[EAX]), "=b"(answer[EBX]), "=c"(answer[ECX]), "=d"(answer[EDX])
                     : "a"(leaf), "c"(subleaf));
}

/* FNV-1a over the bytes of the registers, without the bits that are left out. */
static uint64_t add(uint64_t digest, const struct leaf *asked)
{
    uint32_t answer[REGISTERS];

    cpuid(asked->leaf, asked->subleaf, answer);
    for (int number = 0; number < REGISTERS; number++) {
        uint32_t value = answer[number] & ~asked->left_out[number];

        for (int shift = 0; shift < 32; shift += 8)
            digest = (digest ^ (value >> shift & 0xff)) * 0x100000001b3u;
    }
    return digest;
}

static uint64_t digest_of_cpu(void)
{
    uint64_t digest = 0xcbf29ce484222325u;

    for (size_t number = 0; number < sizeof LEAVES / sizeof *LEAVES; number++)
        digest = add(digest, LEAVES + number);
    /* Size and offset of every component of the XSAVE area. */
    for (uint32_t component = XSAVE_FIRST; component < XSAVE_END; component++) {
        struct leaf asked = {XSAVE_LEAF, component, {0}};

        digest = add(digest, &asked);
    }
    return digest;
}

int main(int argc, char **argv)
{
    useconds_t pause_us = argc > 1 ? (useconds_t)(strtod(argv[1], NULL) * 1e6) : 200000;

    for (;;) {
        uint32_t vendor[REGISTERS];
        char line[80];

        cpuid(0, 0, vendor);
        snprintf(line, sizeof line, "cpuid id=%016lx vendor=%.4s%.4s%.4s\n", (unsigned long)digest_of_cpu(),
                 (char *)&vendor[EBX], (char *)&vendor[EDX], (char *)&vendor[ECX]);
        /* One write per line, so that lines of several processes do not mix. */
        if (write(STDOUT_FILENO, line, strlen(line)) < 0)
            return 1;
        usleep(pause_us);
    }
}
