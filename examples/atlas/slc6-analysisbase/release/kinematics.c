#include "kinematics.h"

#include <math.h>

double invariant_mass(Momentum one, Momentum other)
{
    double e = one.e + other.e, px = one.px + other.px, py = one.py + other.py, pz = one.pz + other.pz;
    double square = e * e - px * px - py * py - pz * pz;
    return square > 0 ? sqrt(square) : 0;
}
