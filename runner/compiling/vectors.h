// Vectors of as many runs as fit a register, with functions that round as torch's kernels do on the same numbers.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <dlfcn.h>
#include <immintrin.h>

// BYTES, those of a register, is given to the compiler.
constexpr int LANES = BYTES / 4, HALF = BYTES / 8;
typedef float F __attribute__((vector_size(BYTES)));
typedef int32_t I __attribute__((vector_size(BYTES)));
typedef double DHalf __attribute__((vector_size(BYTES)));
typedef int64_t LHalf __attribute__((vector_size(BYTES)));
typedef float FHalf __attribute__((vector_size(BYTES / 2)));
typedef int32_t IHalf __attribute__((vector_size(BYTES / 2)));
struct D { DHalf a, b; };  // numbers of 8 bytes take two registers
struct L { LHalf a, b; };
struct M { I bits; };  // true is -1
#define IN static inline __attribute__((always_inline))

// What the two kinds of CPU call the same: types, functions, and those of Sleef.
#if BYTES == 64
typedef __m512 CpuF;
typedef __m512d CpuD;
#define OF_CPU(name) _mm512_##name
#define ROUND_PS _mm512_roundscale_ps
#define ROUND_PD _mm512_roundscale_pd
#define SLEEF_F "f16_u10"
#define SLEEF_D "d8_u10"
#define FMOD_F "fmodf16"
#define FMOD_D "fmodd8"
#else
typedef __m256 CpuF;
typedef __m256d CpuD;
#define OF_CPU(name) _mm256_##name
#define ROUND_PS _mm256_round_ps
#define ROUND_PD _mm256_round_pd
#define SLEEF_F "f8_u10"
#define SLEEF_D "d4_u10"
#define FMOD_F "fmodf8"
#define FMOD_D "fmodd4"
#endif

struct Ref { char *data; long step, row; };  // strides in numbers

IN FHalf lower(F x) { FHalf r; memcpy(&r, &x, sizeof r); return r; }
IN FHalf upper(F x) { FHalf r; memcpy(&r, (char *)&x + sizeof r, sizeof r); return r; }
IN IHalf lower(I x) { IHalf r; memcpy(&r, &x, sizeof r); return r; }
IN IHalf upper(I x) { IHalf r; memcpy(&r, (char *)&x + sizeof r, sizeof r); return r; }
IN F joined(FHalf a, FHalf b) { F r; memcpy(&r, &a, sizeof a); memcpy((char *)&r + sizeof a, &b, sizeof b); return r; }
IN I joined(IHalf a, IHalf b) { I r; memcpy(&r, &a, sizeof a); memcpy((char *)&r + sizeof a, &b, sizeof b); return r; }

IN F all_F(double x) { return F{} + (float)x; }
IN I all_I(long x) { return I{} + (int32_t)x; }
IN D all_D(double x) { return {DHalf{} + x, DHalf{} + x}; }
IN L all_L(long x) { return {LHalf{} + x, LHalf{} + x}; }
IN M all_M(long x) { return {I{} + (int32_t)x}; }

IN F to_F(D x) { return joined(__builtin_convertvector(x.a, FHalf), __builtin_convertvector(x.b, FHalf)); }
IN F to_F(L x) { return joined(__builtin_convertvector(x.a, FHalf), __builtin_convertvector(x.b, FHalf)); }
IN F to_F(I x) { return __builtin_convertvector(x, F); }
IN F to_F(M x) { return __builtin_convertvector(-x.bits, F); }
IN D to_D(F x) { return {__builtin_convertvector(lower(x), DHalf), __builtin_convertvector(upper(x), DHalf)}; }
IN D to_D(I x) { return {__builtin_convertvector(lower(x), DHalf), __builtin_convertvector(upper(x), DHalf)}; }
IN D to_D(M x) { return to_D((I)-x.bits); }
IN D to_D(L x) { return {__builtin_convertvector(x.a, DHalf), __builtin_convertvector(x.b, DHalf)}; }
IN L to_L(I x) { return {__builtin_convertvector(lower(x), LHalf), __builtin_convertvector(upper(x), LHalf)}; }
IN L to_L(M x) { return to_L((I)-x.bits); }
IN L to_L(D x) { return {__builtin_convertvector(x.a, LHalf), __builtin_convertvector(x.b, LHalf)}; }
IN L to_L(F x) { return to_L(to_D(x)); }
IN I to_I(L x) { return joined(__builtin_convertvector(x.a, IHalf), __builtin_convertvector(x.b, IHalf)); }
IN I to_I(M x) { return -x.bits; }
IN I bits_I(F x) { return (I)x; }
IN F bits_F(I x) { return (F)x; }
IN L bits_L(D x) { return {(LHalf)x.a, (LHalf)x.b}; }
IN D bits_D(L x) { return {(DHalf)x.a, (DHalf)x.b}; }
IN M mask(I x) { return {x}; }
IN M mask(LHalf a, LHalf b) { return {joined(__builtin_convertvector(a, IHalf), __builtin_convertvector(b, IHalf))}; }
IN L wide(M x) { return {__builtin_convertvector(lower(x.bits), LHalf), __builtin_convertvector(upper(x.bits), LHalf)}; }

#define TWO(name, V, expression_a, expression_b) IN V name(V x, V y) { return {expression_a, expression_b}; }
#define ARITHMETIC(name, op)                           \
  IN F name(F x, F y) { return x op y; }               \
  IN I name(I x, I y) { return x op y; }               \
  IN D name(D x, D y) { return {x.a op y.a, x.b op y.b}; } \
  IN L name(L x, L y) { return {x.a op y.a, x.b op y.b}; }
ARITHMETIC(add, +)
ARITHMETIC(sub, -)
ARITHMETIC(mul, *)
ARITHMETIC(div, /)
#define COMPARED(name, op)                                         \
  IN M name(F x, F y) { return mask(x op y); }                     \
  IN M name(I x, I y) { return mask(x op y); }                     \
  IN M name(M x, M y) { return mask((-x.bits) op (-y.bits)); }     \
  IN M name(D x, D y) { return mask(x.a op y.a, x.b op y.b); }     \
  IN M name(L x, L y) { return mask(x.a op y.a, x.b op y.b); }
COMPARED(eq, ==)
COMPARED(ne, !=)
COMPARED(lt, <)
COMPARED(le, <=)
COMPARED(gt, >)
COMPARED(ge, >=)
#define BITWISE(name, op)                                       \
  IN I name(I x, I y) { return x op y; }                        \
  IN M name(M x, M y) { return {x.bits op y.bits}; }            \
  IN L name(L x, L y) { return {x.a op y.a, x.b op y.b}; }
BITWISE(bitwise_and, &)
BITWISE(bitwise_or, |)
BITWISE(bitwise_xor, ^)
IN M bitwise_not(M x) { return {~x.bits}; }
IN M logical_and(M x, M y) { return {x.bits & y.bits}; }
IN M logical_or(M x, M y) { return {x.bits | y.bits}; }
IN M logical_not(M x) { return {~x.bits}; }
IN F neg(F x) { return -x; }
IN D neg(D x) { return {-x.a, -x.b}; }
IN L neg(L x) { return {-x.a, -x.b}; }
IN F abs(F x) { return (F)((I)x & 0x7fffffff); }
IN D abs(D x) { return {(DHalf)((LHalf)x.a & 0x7fffffffffffffffL), (DHalf)((LHalf)x.b & 0x7fffffffffffffffL)}; }
IN L abs(L x) { return {x.a < 0 ? -x.a : x.a, x.b < 0 ? -x.b : x.b}; }
IN F where(M m, F x, F y) { return m.bits ? x : y; }
IN I where(M m, I x, I y) { return m.bits ? x : y; }
IN M where(M m, M x, M y) { return {m.bits ? x.bits : y.bits}; }
IN D where(M m, D x, D y) { L w = wide(m); return {w.a ? x.a : y.a, w.b ? x.b : y.b}; }
IN L where(M m, L x, L y) { L w = wide(m); return {w.a ? x.a : y.a, w.b ? x.b : y.b}; }

// Each number by itself, for what vectors have no operator for.
#define EACH(r, x, expression) \
  for (int i = 0; i < (int)(sizeof(x) / sizeof((x)[0])); ++i) { auto v = (x)[i]; (r)[i] = expression; }
IN F std_sqrt(F x) { return (F)OF_CPU(sqrt_ps)((CpuF)x); }
IN DHalf half_sqrt(DHalf x) { return (DHalf)OF_CPU(sqrt_pd)((CpuD)x); }
IN F fused(F x, F y, F z) { return (F)OF_CPU(fmadd_ps)((CpuF)x, (CpuF)y, (CpuF)z); }
IN DHalf half_fused(DHalf x, DHalf y, DHalf z) { return (DHalf)OF_CPU(fmadd_pd)((CpuD)x, (CpuD)y, (CpuD)z); }
#define ROUNDED(name, mode)                                                                                          \
  IN F name(F x) { return (F)ROUND_PS((CpuF)x, mode); }                                                              \
  IN D name(D x) { return {(DHalf)ROUND_PD((CpuD)x.a, mode), (DHalf)ROUND_PD((CpuD)x.b, mode)}; }
ROUNDED(floor, (_MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC))
ROUNDED(ceil, (_MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC))
ROUNDED(trunc, (_MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC))
ROUNDED(round, (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))
IN D std_sqrt(D x) { return {half_sqrt(x.a), half_sqrt(x.b)}; }
IN D fused(D x, D y, D z) { return {half_fused(x.a, y.a, z.a), half_fused(x.b, y.b, z.b)}; }

IN F reciprocal(F x) { return 1.0f / x; }
IN D reciprocal(D x) { return {1.0 / x.a, 1.0 / x.b}; }
template <class V> IN V rsqrt(V x) { return reciprocal(std_sqrt(x)); }
template <class V> IN V square(V x) { return mul(x, x); }
template <class V> IN V cube(V x) { return mul(mul(x, x), x); }
template <class V> IN V rsquare(V x) { return reciprocal(mul(x, x)); }
template <class V> IN V same(V x) { return x; }
IN F one(F) { return all_F(1); }
IN D one(D) { return all_D(1); }
IN F zero(F) { return F{}; }
IN D zero(D) { return all_D(0); }
IN L zero(L) { return all_L(0); }
template <class V> IN M isnan(V x) { return ne(x, x); }
template <class V> IN V maximum(V x, V y) { return where(isnan(x), x, where(isnan(y), y, where(gt(x, y), x, y))); }
template <class V> IN V minimum(V x, V y) { return where(isnan(x), x, where(isnan(y), y, where(lt(x, y), x, y))); }
// Where torch takes one number after the other, zeros of another sign count as equal, and the first is taken.
template <class V> IN V maximum_one(V x, V y) { return where(isnan(x), x, where(isnan(y), y, where(lt(x, y), y, x))); }
template <class V> IN V minimum_one(V x, V y) { return where(isnan(x), x, where(isnan(y), y, where(lt(y, x), y, x))); }
template <class V> IN V clamp_min(V x, V low) { return where(gt(low, x), low, x); }
template <class V> IN V clamp_max(V x, V high) { return where(lt(high, x), high, x); }
template <class V> IN V clamp(V x, V low, V high) { return clamp_max(clamp_min(x, low), high); }
template <class V> IN V clamp_at(V x, V low, V high) { return minimum(maximum(x, low), high); }
template <class V> IN V clamp_at_one(V x, V low, V high) { return minimum_one(maximum_one(x, low), high); }
IN F sign(F x) { return to_F((I)((I)(x > 0) - (I)(x < 0)) * -1); }
IN D sign(D x) { return to_D(L{((LHalf)(x.a > 0) - (LHalf)(x.a < 0)) * -1, ((LHalf)(x.b > 0) - (LHalf)(x.b < 0)) * -1}); }
template <class V> IN V sgn(V x) { return sign(x); }
template <class V> IN V relu(V x) { return clamp_min(x, zero(x)); }
template <class V> IN V plus_scaled(V x, V y, V scale) { return fused(y, scale, x); }
template <class V> IN V addcmul(V x, V y, V z, V scale) { return fused(mul(scale, y), z, x); }
template <class V> IN V addcdiv(V x, V y, V z, V scale) { return add(x, div(mul(scale, y), z)); }
template <class V> IN V lerp_by(V x, V y, V w, V half, V whole) {
  M is_low = lt(abs(w), half);
  return fused(where(is_low, w, sub(w, whole)), sub(y, x), where(is_low, x, y));
}
template <class V> IN V lerp_one_by(V x, V y, V w, V half, V whole) {
  return where(lt(abs(w), half), fused(w, sub(y, x), x), fused(neg(sub(y, x)), sub(whole, w), y));
}
IN F lerp_one(F x, F y, F w) { return lerp_one_by(x, y, w, all_F(0.5), all_F(1)); }
IN D lerp_one(D x, D y, D w) { return lerp_one_by(x, y, w, all_D(0.5), all_D(1)); }
// Functions of numbers that torch takes one after the other.
#define ALONE(name)                                                                                                  \
  IN F name##_one(F x) { F r; EACH(r, x, std::name(v)) return r; }                                                   \
  IN D name##_one(D x) { D r; EACH(r.a, x.a, std::name(v)) EACH(r.b, x.b, std::name(v)) return r; }
#define ALONE_OF_TWO(name, of_std)                                                                                   \
  IN F name(F x, F y) { F r; EACH(r, x, of_std(v, y[i])) return r; }                                                 \
  IN D name(D x, D y) { D r; EACH(r.a, x.a, of_std(v, y.a[i])) EACH(r.b, x.b, of_std(v, y.b[i])) return r; }
ALONE(exp)
ALONE(exp2)
ALONE(log1p)
ALONE(sinh)
ALONE(cosh)
ALONE_OF_TWO(atan2_one, std::atan2)
ALONE_OF_TWO(power_one, std::pow)
ALONE_OF_TWO(fmod_one, std::fmod)
// A power whose exponent is the same for all numbers is computed in double.
IN F power_wide(F x, F y) { F r; EACH(r, x, (float)std::pow((double)v, (double)y[i])) return r; }
IN D power_wide(D x, D y) { return power_one(x, y); }
IN F lerp(F x, F y, F w) { return lerp_by(x, y, w, all_F(0.5), all_F(1)); }
IN D lerp(D x, D y, D w) { return lerp_by(x, y, w, all_D(0.5), all_D(1)); }
IN F sigmoid_backward(F g, F y) { return g * (1.0f - y) * y; }
IN D sigmoid_backward(D g, D y) { return {g.a * (1.0 - y.a) * y.a, g.b * (1.0 - y.b) * y.b}; }
IN F tanh_backward(F g, F y) { return g * (1.0f - y * y); }
IN D tanh_backward(D g, D y) { return {g.a * (1.0 - y.a * y.a), g.b * (1.0 - y.b * y.b)}; }
template <class V> IN V threshold_backward(V g, V x, V limit) { return where(le(x, limit), zero(g), g); }

// A remainder has the sign of the divisor.
#define OF_REMAINDER(name, of_fmod)                                                                                  \
  template <class V> IN V name(V x, V y) {                                                                           \
    V r = of_fmod(x, y);                                                                                             \
    M is_other = bitwise_and(ne(r, zero(r)), bitwise_xor(lt(y, zero(y)), lt(r, zero(r))));                           \
    return where(is_other, add(r, y), r);                                                                            \
  }
OF_REMAINDER(remainder_one, fmod_one)
template <class V> IN V sigmoid_one(V x) { return reciprocal(add(one(x), exp_one(neg(x)))); }
template <class V> IN V softplus_one(V x, V beta, V limit) {
  V y = mul(x, beta);
  return where(gt(y, limit), x, div(log1p_one(exp_one(y)), beta));
}
template <class V> IN V softplus_backward_one(V g, V x, V beta, V limit) {
  V y = mul(x, beta), z = exp_one(y);
  return where(gt(y, limit), g, div(mul(g, z), add(z, one(z))));
}

// Functions of the libraries in torch, which its kernels call too.
static void *torch_function(const char *name) {
  static void *torch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
  return torch ? dlsym(torch, name) : nullptr;
}
// MKL would start threads for each call, while a program gives its threads runs of their own.
struct OneThread {
  int (*const set)(int) = (int (*)(int))torch_function("MKL_Set_Num_Threads_Local");
  const int before = set ? set(1) : 0;
  ~OneThread() {
    if (set) set(before);
  }
};
constexpr long ACCURATE = 0x2 | 0x00140000 | 0x100;  // VML_HA | VML_FTZDAZ_OFF | VML_ERRMODE_IGNORE
// The bits of two powers are the same if those of base and exponent are: most runs of a sweep share them.
template <class V> struct Last { V x, y, r; bool is_known = false; };
IN bool are_same(const void *x, const void *y, size_t size) { return memcmp(x, y, size) == 0; }
template <class V, class P> IN V remembered(V x, V y, Last<V> &last, P power) {
  if (last.is_known && are_same(&x, &last.x, sizeof x) && are_same(&y, &last.y, sizeof y)) return last.r;
  last.x = x, last.y = y, last.r = power(x, y), last.is_known = true;
  return last.r;
}
#define OF_MKL(name, of_mkl)                                                                                    \
  static const auto vms_##name = (void (*)(int, const float *, float *, long))torch_function("vms" #of_mkl);   \
  static const auto vmd_##name = (void (*)(int, const double *, double *, long))torch_function("vmd" #of_mkl); \
  IN void name(F *x, int count) {                                                                              \
    if (vms_##name) vms_##name(count * LANES, (const float *)x, (float *)x, ACCURATE);                         \
    else for (int k = 0; k < count; ++k) EACH(x[k], x[k], std::name(v))                                        \
  }                                                                                                            \
  IN void name(D *x, int count) {                                                                              \
    if (vmd_##name) vmd_##name(count * LANES, (const double *)x, (double *)x, ACCURATE);                       \
    else for (int k = 0; k < count; ++k) { EACH(x[k].a, x[k].a, std::name(v)) EACH(x[k].b, x[k].b, std::name(v)) } \
  }
#define OF_SLEEF(name)                                                                       \
  static const auto sf_##name = (F (*)(F))torch_function("Sleef_" #name SLEEF_F);              \
  static const auto sd_##name = (DHalf (*)(DHalf))torch_function("Sleef_" #name SLEEF_D);      \
  IN F sleef_##name(F x) {                                                                   \
    if (sf_##name) return sf_##name(x);                                                      \
    F r;                                                                                     \
    EACH(r, x, std::name(v))                                                                 \
    return r;                                                                                \
  }                                                                                          \
  IN D sleef_##name(D x) {                                                                   \
    if (sd_##name) return {sd_##name(x.a), sd_##name(x.b)};                                  \
    D r;                                                                                     \
    EACH(r.a, x.a, std::name(v))                                                             \
    EACH(r.b, x.b, std::name(v))                                                             \
    return r;                                                                                \
  }
#define OF_SLEEF_TWO(name, of_sleef, of_std) OF_SLEEF_NAMED(name, of_sleef SLEEF_F, of_sleef SLEEF_D, of_std)
#define OF_SLEEF_NAMED(name, of_f, of_d, of_std)                                                 \
  static const auto sf_##name = (F (*)(F, F))torch_function("Sleef_" of_f);        \
  static const auto sd_##name = (DHalf (*)(DHalf, DHalf))torch_function("Sleef_" of_d); \
  IN F name(F x, F y) {                                                                      \
    if (sf_##name) return sf_##name(x, y);                                                   \
    F r;                                                                                     \
    EACH(r, x, of_std(v, y[i]))                                                              \
    return r;                                                                                \
  }                                                                                          \
  IN D name(D x, D y) {                                                                      \
    if (sd_##name) return {sd_##name(x.a, y.a), sd_##name(x.b, y.b)};                        \
    D r;                                                                                     \
    EACH(r.a, x.a, of_std(v, y.a[i]))                                                        \
    EACH(r.b, x.b, of_std(v, y.b[i]))                                                        \
    return r;                                                                                \
  }

// A tensor's numbers of one vector of runs; those beyond the last run repeat the first.
template <class T, class V> IN void gather(V &r, const T *p, long row, int from, int count) {
  for (int i = 0; i < (int)(sizeof(V) / sizeof(T)); ++i) r[i] = p[(from + i < count ? from + i : 0) * row];
}
#define LOADED(V, T, H)                                                        \
  IN V load_##V(const Ref &ref, long step, long first, int item, int count) {  \
    const T *p = (const T *)ref.data + step * ref.step + first * ref.row + item; \
    if (ref.row == 0 || count == 1) return all_##V(*p);                        \
    V r;                                                                       \
    if (ref.row == 1 && count == LANES) { memcpy(&r, p, sizeof r); return r; } \
    H(r)                                                                       \
    return r;                                                                  \
  }
#define ONE(r) gather(r, p, ref.row, 0, count);
#define BOTH(r) gather(r.a, p, ref.row, 0, count); gather(r.b, p, ref.row, HALF, count);
LOADED(F, float, ONE)
LOADED(I, int32_t, ONE)
LOADED(D, double, BOTH)
LOADED(L, int64_t, BOTH)
IN M load_M(const Ref &ref, long step, long first, int item, int count) {
  const bool *p = (const bool *)ref.data + step * ref.step + first * ref.row + item;
  M r;
  for (int i = 0; i < LANES; ++i) r.bits[i] = p[(i < count ? i : 0) * ref.row] ? -1 : 0;
  return r;
}
template <class T, class V> IN void store(const Ref &ref, V x, long step, long first, int item, int count) {
  T *p = (T *)ref.data + step * ref.step + first * ref.row + item;
  const T *q = (const T *)&x;
  if (count == 1 || ref.row == 0) { *p = *q; return; }
  if (ref.row == 1 && count == LANES) { memcpy(p, q, LANES * sizeof(T)); return; }
  for (int i = 0; i < count; ++i) p[i * ref.row] = q[i];
}
IN void store_F(const Ref &ref, F x, long step, long first, int item, int count) { store<float>(ref, x, step, first, item, count); }
IN void store_I(const Ref &ref, I x, long step, long first, int item, int count) { store<int32_t>(ref, x, step, first, item, count); }
IN void store_D(const Ref &ref, D x, long step, long first, int item, int count) { store<double>(ref, x, step, first, item, count); }
IN void store_L(const Ref &ref, L x, long step, long first, int item, int count) { store<int64_t>(ref, x, step, first, item, count); }
IN void store_M(const Ref &ref, M x, long step, long first, int item, int count) {
  bool *p = (bool *)ref.data + step * ref.step + first * ref.row + item;
  for (int i = 0; i < (ref.row ? count : 1); ++i) p[i * ref.row] = x.bits[i] != 0;
}
