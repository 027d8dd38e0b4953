// Places in the windows of a pooling: a shared tool of the kernel files. Bytes or int32 in memory, as wide as T in
// vectors.
#pragma once

#include "kernels/vec.h"

namespace ranvier::RANVIER_TIER {
namespace {

template <class T>
RANVIER_INLINE IVec<T> load_places(const uint8_t* p, int64_t n) {
  if (n == kLanes<T>) return widen(T(), p);
  uint8_t some[kLanes<T>] = {};
  for (int64_t i = 0; i < n; ++i) some[i] = p[i];
  return widen(T(), some);
}
template <class T>
RANVIER_INLINE IVec<T> load_places(const int32_t* p, int64_t n) {
  IVec<T> v = {};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
template <class T, class I>
RANVIER_INLINE void store_places(I* p, IVec<T> v, int64_t n) {
  typedef I Narrow __attribute__((vector_size(kLanes<T> * sizeof(I))));
  const Narrow narrow = __builtin_convertvector(v, Narrow);
  if (n == kLanes<T>) {
    memcpy(p, &narrow, sizeof narrow);
  } else {
    for (int64_t i = 0; i < n; ++i) p[i] = narrow[i];
  }
}
template <class T>
RANVIER_INLINE IVec<T> splat_place(int64_t place) {
  return IVec<T>{} + static_cast<typename VecOf<T>::Int>(place);
}

// The largest of a window so far, and where it is. Of equal ones the first is the largest. A NaN is larger than all.
template <class T>
struct Largest {
  Vec<T> value;
  IVec<T> place;
};
template <class T>
RANVIER_INLINE void meet(Largest<T>& best, Vec<T> v, int64_t place) {
  const IVec<T> better = (v > best.value) | (v != v);
  best.value = better ? v : best.value;
  best.place = better ? splat_place<T>(place) : best.place;
}

}  // namespace
}  // namespace ranvier::RANVIER_TIER
