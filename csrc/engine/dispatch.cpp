#include "engine/dispatch.h"

#include <cstdlib>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

// One fill function a compiled tier; RANVIER_TIERS is TIER(sse4) TIER(avx2) ... from the build, worst first.
#define TIER(name)               \
  namespace ranvier::name {      \
  void fill(KernelTable& table); \
  }
RANVIER_TIERS
#undef TIER

namespace ranvier::engine {
namespace {

#if defined(__x86_64__)
struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};
Registers cpuid(unsigned leaf) {
  Registers r;
  __get_cpuid_count(leaf, 0, &r.a, &r.b, &r.c, &r.d);
  return r;
}
bool has(unsigned value, unsigned wanted) {
  return (value & wanted) == wanted;
}

// CPUID tells what the processor can do, XCR0 which registers the operating system saves: both must agree.
bool runs_sse4() {
  constexpr unsigned kSse3 = 1u << 0, kSsse3 = 1u << 9, kCx16 = 1u << 13, kSse41 = 1u << 19, kSse42 = 1u << 20,
                     kPopcnt = 1u << 23;
  return has(cpuid(1).c, kSse3 | kSsse3 | kCx16 | kSse41 | kSse42 | kPopcnt);
}
unsigned saved_registers() {
  constexpr unsigned kOsxsave = 1u << 27;
  if (!has(cpuid(1).c, kOsxsave)) return 0;
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}
bool runs_avx2() {
  constexpr unsigned kFma = 1u << 12, kMovbe = 1u << 22, kAvx = 1u << 28, kF16c = 1u << 29;  // leaf 1, ecx
  constexpr unsigned kBmi1 = 1u << 3, kAvx2 = 1u << 5, kBmi2 = 1u << 8;                      // leaf 7, ebx
  constexpr unsigned kLzcnt = 1u << 5;                                                       // 80000001, ecx
  constexpr unsigned kXmmYmm = 0x6;
  return runs_sse4() && has(cpuid(1).c, kFma | kMovbe | kAvx | kF16c) && has(cpuid(7).b, kBmi1 | kAvx2 | kBmi2) &&
         has(cpuid(0x80000001u).c, kLzcnt) && has(saved_registers(), kXmmYmm);
}
bool runs_avx512() {
  constexpr unsigned kF = 1u << 16, kDq = 1u << 17, kCd = 1u << 28, kBw = 1u << 30, kVl = 1u << 31;  // leaf 7, ebx
  constexpr unsigned kXmmYmmZmm = 0xe6;
  return runs_avx2() && has(cpuid(7).b, kF | kDq | kCd | kBw | kVl) && has(saved_registers(), kXmmYmmZmm);
}
#else
bool runs_generic() {
  return true;
}
#endif

struct Tier {
  const char* name;
  bool (*runs)();
  void (*fill)(KernelTable&);
};
const Tier kTiers[] = {
#define TIER(name) {#name, runs_##name, ranvier::name::fill},
    RANVIER_TIERS
#undef TIER
};

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string chosen_isa;
KernelTable table;

}  // namespace

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const Tier& tier : kTiers) {
    if (tier.runs()) names.insert(names.begin(), tier.name);
  }
  return names;
}

void choose_kernels() {
  const std::vector<std::string> supported = supported_isas();
  if (supported.empty()) {
    throw std::runtime_error("Ranvier needs a processor with SSE4.2 (x86-64-v2, since about 2009): this one has none");
  }
  const char* wanted = std::getenv("RANVIER_ISA");
  std::string name = wanted && *wanted ? wanted : supported.front();
  bool known = false, usable = false;
  for (const Tier& tier : kTiers) known |= name == tier.name;
  for (const auto& candidate : supported) usable |= name == candidate;
  if (!usable) {
    throw std::runtime_error("RANVIER_ISA=" + name + (known ? " is not supported by this processor" : " is unknown") +
                             ": use one of " + joined(supported) + ", or unset it");
  }
  for (const Tier& tier : kTiers) {
    if (name == tier.name) tier.fill(table);
  }
  chosen_isa = name;
}

const std::string& isa() {
  return chosen_isa;
}
const KernelTable& kernels() {
  return table;
}

}  // namespace ranvier::engine
