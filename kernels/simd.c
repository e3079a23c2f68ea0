#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "kernels/backend.h"

// Order of simd_level.
static const char *const names[SIMD_COUNT] = {
    "auto", "plain", "avx2", "avx512", "avx512bf16", "neon",
};

const char *simd_level_name(simd_level level)
{
    return (unsigned)level < SIMD_COUNT ? names[level] : "unknown";
}

sight_err simd_level_parse(simd_level *out, const char *name)
{
    for (int i = 0; i < SIMD_COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (simd_level)i;
            return SIGHT_OK;
        }
    }
    return sight_fail(SIGHT_E_ARGUMENT,
                      "SIMD level '%s' is not auto, plain, avx2, avx512, avx512bf16 or neon", name);
}

#if defined(__x86_64__)

// clang knows no such name for __builtin_cpu_supports.
static bool has_f16c(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

// __builtin_cpu_supports also asks the system (XCR0) whether it keeps the wide registers.
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

// Neither compiler's __builtin_cpu_supports knows it by name; the wide registers are AVX2's.
bool simd_has_avxvnni(void)
{
    unsigned eax, ebx, ecx, edx;
    return has_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1);
}

bool simd_has_vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}

bool simd_level_available(simd_level level)
{
    switch (level) {
    case SIMD_AUTO:
    case SIMD_PLAIN: return true;
    case SIMD_AVX2: return has_avx2();
    case SIMD_AVX512: return has_avx512();
    case SIMD_AVX512BF16: return has_avx512() && __builtin_cpu_supports("avx512bf16");
    default: return false;
    }
}

// Intel's cores without tiles run a bf16 product in twice the time of the float32 ones it replaces;
// AMD's (Zen 4 and later) in half. The maker of the processor decides, not a measurement: the
// same machine gives the same answers at every start.
simd_level simd_level_best(bool exact)
{
    if (!exact && __builtin_cpu_is("amd") && simd_level_available(SIMD_AVX512BF16)) {
        return SIMD_AVX512BF16;
    }
    if (has_avx512()) return SIMD_AVX512;
    return has_avx2() ? SIMD_AVX2 : SIMD_PLAIN;
}

#elif defined(__aarch64__)

bool simd_has_dotprod(void)
{
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
}

bool simd_has_i8mm(void)
{
    return getauxval(AT_HWCAP2) & HWCAP2_I8MM;
}

bool simd_level_available(simd_level level) // NEON is part of the architecture
{
    return level == SIMD_AUTO || level == SIMD_PLAIN || level == SIMD_NEON;
}

simd_level simd_level_best(bool exact)
{
    return SIMD_NEON;
}

#else

bool simd_level_available(simd_level level)
{
    return level == SIMD_AUTO || level == SIMD_PLAIN;
}

simd_level simd_level_best(bool exact)
{
    return SIMD_PLAIN;
}

#endif
