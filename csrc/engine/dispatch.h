// Which compilation of the kernels runs: chosen once, at import, for this CPU.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace ranvier::engine {

// Tiers that were compiled and that this CPU and operating system can run, best first.
std::vector<std::string> supported_isas();

// Fills the table from the tier named by RANVIER_ISA, else from the best one.
// Throws std::runtime_error when the name is unknown, when this CPU cannot run it, or when it can run none.
void choose_kernels();

// The tier chosen, and its kernels.
const std::string& isa();
const KernelTable& kernels();

}  // namespace ranvier::engine
