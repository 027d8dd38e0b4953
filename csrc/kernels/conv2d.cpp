// The convolution. Forward: y = f(x * w + b). Backward, with dz = dy * f'(z) (activation.cpp):
//   dx[ih, iw, c] = sum of dz[oh, ow, f] w[kh, kw, c, f] over the taps with oh * stride - pad + kh * dilation = ih, ...
//   dw[kh, kw, c, f] = sum over the pixels of x[oh * stride - pad + kh * dilation, ..., c] dz[oh, ow, f]
// Zeros around the image are never multiplied: taps that fall outside are left out.
#include "kernels/activate.h"
#include "kernels/tier.h"

namespace ranvier::RANVIER_TIER {
namespace {

// Where tap k of output o reads; -1 outside the image.
RANVIER_INLINE int64_t read_at(int64_t o, int64_t k, int64_t stride, int64_t dilation, int64_t pad, int64_t size) {
  const int64_t i = o * stride - pad + k * dilation;
  return i >= 0 && i < size ? i : -1;
}

// Which output reads input i with tap k; -1: none.
RANVIER_INLINE int64_t read_by(int64_t i, int64_t k, int64_t stride, int64_t dilation, int64_t pad, int64_t outputs) {
  const int64_t at = i + pad - k * dilation;
  return at >= 0 && at % stride == 0 && at / stride < outputs ? at / stride : -1;
}

template <class T>
void conv(const ConvArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const int64_t channels = g.channels / g.groups, filters = g.filters / g.groups;
  const T* bias = static_cast<const T*>(a.bias);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t image = row / g.out_height, oh = row % g.out_height;
    const T* x = static_cast<const T*>(a.x) + image * g.height * g.width * g.channels;
    T* y = static_cast<T*>(a.y) + row * g.out_width * g.filters;
    for (int64_t pixel = 0; pixel < g.out_width * g.groups; ++pixel) {
      const int64_t ow = pixel / g.groups, group = pixel % g.groups, f0 = group * filters;
      for_lanes<T>(f0, f0 + filters, [&](int64_t f, int64_t k) __attribute__((always_inline)) {
        Vec<T> total = bias ? load_lanes(bias + f, k) : Vec<T>{};
        for (int64_t tap = 0; tap < g.kernel_height * g.kernel_width; ++tap) {
          const int64_t kh = tap / g.kernel_width, kw = tap % g.kernel_width;
          const int64_t ih = read_at(oh, kh, g.stride_height, g.dilation_height, g.pad_top, g.height);
          const int64_t iw = read_at(ow, kw, g.stride_width, g.dilation_width, g.pad_left, g.width);
          if (ih < 0 || iw < 0) continue;
          const T* from = x + (ih * g.width + iw) * g.channels + group * channels;
          const T* w = static_cast<const T*>(a.w) + tap * channels * g.filters + f;
          for (int64_t c = 0; c < channels; ++c) {
            total = fma(splat<T>(from[c]), load_lanes(w + c * g.filters, k), total);
          }
        }
        store_lanes(y + ow * g.filters + f, total, k);
      });
    }
    apply_row<T>(a.activation, y, y, g.out_width * g.filters, a.alpha);
  }
}

template <class T>
void conv_input_gradient(const ConvInputGradientArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const int64_t channels = g.channels / g.groups, filters = g.filters / g.groups;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t image = row / g.height, ih = row % g.height;
    const T* dy = static_cast<const T*>(a.dy) + image * g.out_height * g.out_width * g.filters;
    T* dx = static_cast<T*>(a.dx) + row * g.width * g.channels;
    for (int64_t i = 0; i < g.width * g.channels; ++i) {
      const int64_t iw = i / g.channels, channel = i % g.channels;
      const int64_t group = channel / channels, c = channel % channels;
      T total = a.bias ? static_cast<const T*>(a.bias)[channel] : T(0);
      for (int64_t tap = 0; tap < g.kernel_height * g.kernel_width; ++tap) {
        const int64_t kh = tap / g.kernel_width, kw = tap % g.kernel_width;
        const int64_t oh = read_by(ih, kh, g.stride_height, g.dilation_height, g.pad_top, g.out_height);
        const int64_t ow = read_by(iw, kw, g.stride_width, g.dilation_width, g.pad_left, g.out_width);
        if (oh < 0 || ow < 0) continue;
        const T* from = dy + (oh * g.out_width + ow) * g.filters + group * filters;
        const T* w = static_cast<const T*>(a.w) + (tap * channels + c) * g.filters + group * filters;
        total += sum<T>(filters, [=](int64_t f, int64_t k) __attribute__((always_inline)) {
          return load_lanes(from + f, k) * load_lanes(w + f, k);
        });
      }
      dx[i] = total;
    }
    apply_row<T>(a.activation, dx, dx, g.width * g.channels, a.alpha);
  }
}

template <class T>
void conv_kernel_gradient(const ConvKernelGradientArgs& a, int64_t begin, int64_t end) {
  const ConvGeometry& g = a.g;
  const int64_t channels = g.channels / g.groups, filters = g.filters / g.groups;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t tap = row / channels, c = row % channels;
    const int64_t kh = tap / g.kernel_width, kw = tap % g.kernel_width;
    T* dw = static_cast<T*>(a.dw) + row * g.filters;
    for (int64_t group = 0; group < g.groups; ++group) {
      for_lanes<T>(group * filters, (group + 1) * filters, [&](int64_t f, int64_t k) __attribute__((always_inline)) {
        Vec<T> total = a.accumulate ? load_lanes(dw + f, k) : Vec<T>{};
        for (int64_t r = 0; r < g.batch * g.out_height; ++r) {
          const int64_t image = r / g.out_height, oh = r % g.out_height;
          const int64_t ih = read_at(oh, kh, g.stride_height, g.dilation_height, g.pad_top, g.height);
          if (ih < 0) continue;
          for (int64_t ow = 0; ow < g.out_width; ++ow) {
            const int64_t iw = read_at(ow, kw, g.stride_width, g.dilation_width, g.pad_left, g.width);
            if (iw < 0) continue;
            const T x = static_cast<const T*>(
                a.x)[((image * g.height + ih) * g.width + iw) * g.channels + group * channels + c];
            const T* dy = static_cast<const T*>(a.dy) + (r * g.out_width + ow) * g.filters + f;
            total = fma(splat<T>(x), load_lanes(dy, k), total);
          }
        }
        store_lanes(dw + f, total, k);
      });
    }
  }
}

}  // namespace

void fill_conv2d(KernelTable& table) {
  table.conv = typed(ConvArgs, conv);
  table.conv_input_gradient = typed(ConvInputGradientArgs, conv_input_gradient);
  table.conv_kernel_gradient = typed(ConvKernelGradientArgs, conv_kernel_gradient);
}

}  // namespace ranvier::RANVIER_TIER
