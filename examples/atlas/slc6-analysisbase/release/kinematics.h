/* A particle's four-momentum in natural units (GeV). */
typedef struct {
    double e, px, py, pz;
} Momentum;

/* The invariant mass of two particles, in GeV. */
double invariant_mass(Momentum one, Momentum other);
