/* Full-batch gradient descent of a network of one hidden layer, no biases, half squared error: the limit.
   The sizes are constants of the compilation: I, H, O, N and REAL (float or double).

   descend_plain  loops that the compiler vectorises.
   descend_wide   3-4-1 on 4 patterns only: lane 4n + h of one vector holds pattern n and hidden unit h. */
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
typedef REAL wide __attribute__((vector_size(16 * sizeof(REAL))));
typedef int32_t whole __attribute__((vector_size(16 * sizeof(int32_t))));
#ifdef DOUBLE
typedef int64_t bits __attribute__((vector_size(16 * sizeof(int64_t))));
#define MANTISSA 52
#define BIAS 1023
#define LIMIT 700
#else
typedef int32_t bits __attribute__((vector_size(16 * sizeof(int32_t))));
#define MANTISSA 23
#define BIAS 127
#define LIMIT 80
#endif

static inline wide choose(bits mask, wide a, wide b) { return (wide)((mask & (bits)a) | (~mask & (bits)b)); }

/* 2^k 2^f, |f| <= 1/2, by a Taylor polynomial in f ln 2 of as many terms as REAL has room for. */
static inline wide wide_exp(wide v) {
  v = choose(v > LIMIT, (wide){0} + LIMIT, choose(v < -LIMIT, (wide){0} - LIMIT, v));
  wide t = v * (REAL)1.44269504088896340736;
  whole k = __builtin_convertvector(t + (REAL)1024.5, whole) - 1024;
  wide f = (t - __builtin_convertvector(k, wide)) * (REAL)0.69314718055994530942;
#ifdef DOUBLE
  wide p = (wide){0} + (REAL)(1.0 / 6227020800.0);
  static const double c[] = {1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
                             1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1, 1};
#else
  wide p = (wide){0} + (REAL)(1.0 / 5040);
  static const double c[] = {1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1, 1};
#endif
#pragma GCC unroll 16
  for (unsigned i = 0; i < sizeof c / sizeof *c; i++) p = p * f + (REAL)c[i];
  bits power = (__builtin_convertvector(k, bits) + BIAS) << MANTISSA;
  return p * (wide)power;
}

static inline wide wide_sigmoid(wide z) { return 1 / (1 + wide_exp(-z)); }

#ifdef __clang__
#define SHUFFLE(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
#define SHUFFLE(v, ...) __builtin_shuffle(v, (bits){__VA_ARGS__})
#endif

/* Every lane gets the sum over the hidden units of its pattern, or over the patterns of its hidden unit. */
static inline wide over_units(wide v) {
  v += SHUFFLE(v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  return v + SHUFFLE(v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
}

static inline wide over_patterns(wide v) {
  v += SHUFFLE(v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  return v + SHUFFLE(v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
}

void descend_wide(const REAL *restrict x, const REAL *restrict y, REAL *restrict w1, REAL *restrict w2, REAL rate,
                  long steps) {
  wide x0, x1, x2, target, u0, u1, u2, v;
  for (int n = 0; n < 4; n++)
    for (int h = 0; h < 4; h++) {
      int lane = 4 * n + h;
      x0[lane] = x[3 * n], x1[lane] = x[3 * n + 1], x2[lane] = x[3 * n + 2], target[lane] = y[n];
      u0[lane] = w1[h], u1[lane] = w1[4 + h], u2[lane] = w1[8 + h], v[lane] = w2[h];
    }
  for (long step = 0; step < steps; step++) {
    wide a1 = wide_sigmoid(x0 * u0 + x1 * u1 + x2 * u2);
    wide a2 = wide_sigmoid(over_units(a1 * v));
    wide d2 = (a2 - target) * (a2 * (1 - a2)) * rate;
    wide d1 = d2 * v * (a1 * (1 - a1));
    v -= over_patterns(a1 * d2);
    u0 -= over_patterns(x0 * d1);
    u1 -= over_patterns(x1 * d1);
    u2 -= over_patterns(x2 * d1);
  }
  for (int h = 0; h < 4; h++) w1[h] = u0[h], w1[4 + h] = u1[h], w1[8 + h] = u2[h], w2[h] = v[h];
}
#endif
