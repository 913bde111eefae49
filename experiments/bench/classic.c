/* Full-batch gradient descent of a network of one hidden layer, no biases, half squared error: the limit.
   The sizes are constants of the compilation: I, H, O, N and REAL (float or double).

   descend_plain  loops that the compiler vectorises.
   descend_wide   3-4-1 on 4 patterns only: 16 lanes, 4n + h for pattern n and hidden unit h, in as few vectors as the
                  machine has room for. */
#include <math.h>
#include <stdint.h>

#define EXP(x) (sizeof(REAL) == 4 ? (REAL)expf((float)(x)) : (REAL)exp((double)(x)))

static inline REAL sigmoid(REAL z) { return (REAL)1 / ((REAL)1 + EXP(-z)); }

void descend_plain(const REAL *restrict x, const REAL *restrict y, REAL *restrict w1, REAL *restrict w2, REAL rate,
                   long steps) {
  REAL a1[N][H], a2[N][O], d1[N][H], d2[N][O];
  for (long step = 0; step < steps; step++) {
    for (int n = 0; n < N; n++)
      for (int h = 0; h < H; h++) {
        REAL z = 0;
        for (int i = 0; i < I; i++) z += x[n * I + i] * w1[i * H + h];
        a1[n][h] = z;
      }
    for (int k = 0; k < N * H; k++) (&a1[0][0])[k] = sigmoid((&a1[0][0])[k]);
    for (int n = 0; n < N; n++)
      for (int o = 0; o < O; o++) {
        REAL z = 0;
        for (int h = 0; h < H; h++) z += a1[n][h] * w2[h * O + o];
        a2[n][o] = z;
      }
    for (int k = 0; k < N * O; k++) (&a2[0][0])[k] = sigmoid((&a2[0][0])[k]);
    for (int k = 0; k < N * O; k++) {
      REAL a = (&a2[0][0])[k];
      (&d2[0][0])[k] = (a - y[k]) * (a * (1 - a));
    }
    for (int n = 0; n < N; n++)
      for (int h = 0; h < H; h++) {
        REAL s = 0;
        for (int o = 0; o < O; o++) s += d2[n][o] * w2[h * O + o];
        d1[n][h] = s * (a1[n][h] * (1 - a1[n][h]));
      }
    for (int i = 0; i < I; i++)
      for (int h = 0; h < H; h++) {
        REAL s = 0;
        for (int n = 0; n < N; n++) s += x[n * I + i] * d1[n][h];
        w1[i * H + h] -= rate * s;
      }
    for (int h = 0; h < H; h++)
      for (int o = 0; o < O; o++) {
        REAL s = 0;
        for (int n = 0; n < N; n++) s += a1[n][h] * d2[n][o];
        w2[h * O + o] -= rate * s;
      }
  }
}

#if I == 3 && H == 4 && O == 1 && N == 4
#ifdef __AVX512F__
#define BYTES 64
#else
#define BYTES 32
#endif
#define LANES (BYTES / (int)sizeof(REAL))
#define PARTS (16 / LANES)

typedef REAL vec __attribute__((vector_size(BYTES)));
typedef int32_t whole __attribute__((vector_size(LANES * sizeof(int32_t))));
#ifdef DOUBLE
typedef int64_t bits __attribute__((vector_size(BYTES)));
#define MANTISSA 52
#define BIAS 1023
#define LIMIT 700
#define HALF 7 /* of the terms of exp's series, which ends at f^13 */
static const double even[] = {1, 1.0 / 2, 1.0 / 24, 1.0 / 720, 1.0 / 40320, 1.0 / 3628800, 1.0 / 479001600},
                    odd[] = {1, 1.0 / 6, 1.0 / 120, 1.0 / 5040, 1.0 / 362880, 1.0 / 39916800, 1.0 / 6227020800};
#else
typedef int32_t bits __attribute__((vector_size(BYTES)));
#define MANTISSA 23
#define BIAS 127
#define LIMIT 80
#define HALF 4 /* it ends at f^7 */
static const double even[] = {1, 1.0 / 2, 1.0 / 24, 1.0 / 720}, odd[] = {1, 1.0 / 6, 1.0 / 120, 1.0 / 5040};
#endif

static inline vec choose(bits mask, vec a, vec b) { return (vec)((mask & (bits)a) | (~mask & (bits)b)); }

/* 2^k e^f, |f| <= ln 2 / 2, even and odd powers of f apart: two short chains instead of a long one. */
static inline vec vec_exp(vec v) {
  v = choose(v > LIMIT, (vec){0} + LIMIT, choose(v < -LIMIT, (vec){0} - LIMIT, v));
  vec t = v * (REAL)1.44269504088896340736;
  whole k = __builtin_convertvector(t + (REAL)2048.5, whole) - 2048;
  vec f = (t - __builtin_convertvector(k, vec)) * (REAL)0.69314718055994530942, g = f * f;
  vec p = (vec){0} + (REAL)even[HALF - 1], q = (vec){0} + (REAL)odd[HALF - 1];
#pragma GCC unroll 8
  for (int i = HALF - 2; i >= 0; i--) p = p * g + (REAL)even[i], q = q * g + (REAL)odd[i];
  bits power = (__builtin_convertvector(k, bits) + BIAS) << MANTISSA;
  return (p + q * f) * (vec)power;
}

static inline vec vec_sigmoid(vec z) { return 1 / (1 + vec_exp(-z)); }

#ifdef __clang__
#define SHUFFLE(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
#define SHUFFLE(v, ...) __builtin_shuffle(v, (bits){__VA_ARGS__})
#endif
/* Lane i trades places with lane i ^ 1, 2, 4 and 8. */
#if BYTES == 64 && !defined(DOUBLE)
#define TRADE1(v) SHUFFLE(v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
#define TRADE2(v) SHUFFLE(v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
#define TRADE4(v) SHUFFLE(v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
#define TRADE8(v) SHUFFLE(v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
#elif BYTES == 64 || !defined(DOUBLE)
#define TRADE1(v) SHUFFLE(v, 1, 0, 3, 2, 5, 4, 7, 6)
#define TRADE2(v) SHUFFLE(v, 2, 3, 0, 1, 6, 7, 4, 5)
#define TRADE4(v) SHUFFLE(v, 4, 5, 6, 7, 0, 1, 2, 3)
#else
#define TRADE1(v) SHUFFLE(v, 1, 0, 3, 2)
#define TRADE2(v) SHUFFLE(v, 2, 3, 0, 1)
#endif

/* Every lane gets the sum over the hidden units of its pattern. */
static inline vec over_units(vec v) {
  v += TRADE1(v);
  return v + TRADE2(v);
}

/* Every lane gets the sum over the patterns of its hidden unit. */
static inline vec over_patterns(const vec *parts) {
  vec v = parts[0];
  for (int p = 1; p < PARTS; p++) v += parts[p];
#ifdef TRADE4
  v += TRADE4(v);
#endif
#ifdef TRADE8
  v += TRADE8(v);
#endif
  return v;
}

void descend_wide(const REAL *restrict x, const REAL *restrict y, REAL *restrict w1, REAL *restrict w2, REAL rate,
                  long steps) {
  vec xs[3][PARTS], target[PARTS], u[3], v;
  for (int lane = 0; lane < 16; lane++) {
    int n = lane / 4, h = lane % 4, part = lane / LANES, at = lane % LANES;
    target[part][at] = y[n], v[at] = w2[h];
    for (int i = 0; i < 3; i++) xs[i][part][at] = x[3 * n + i], u[i][at] = w1[4 * i + h];
  }
  for (long step = 0; step < steps; step++) {
    vec d_v[PARTS], d_u[3][PARTS];
    for (int p = 0; p < PARTS; p++) {
      vec a1 = vec_sigmoid(xs[0][p] * u[0] + xs[1][p] * u[1] + xs[2][p] * u[2]);
      vec a2 = vec_sigmoid(over_units(a1 * v));
      vec d2 = (a2 - target[p]) * (a2 * (1 - a2)) * rate;
      vec d1 = d2 * v * (a1 * (1 - a1));
      d_v[p] = a1 * d2;
      for (int i = 0; i < 3; i++) d_u[i][p] = xs[i][p] * d1;
    }
    v -= over_patterns(d_v);
    for (int i = 0; i < 3; i++) u[i] -= over_patterns(d_u[i]);
  }
  for (int h = 0; h < 4; h++) {
    w2[h] = v[h];
    for (int i = 0; i < 3; i++) w1[4 * i + h] = u[i][h];
  }
}
#endif
