/* Reads events of two jets each, and writes how many there are for every 20 GeV of the two jets' mass. */
#include <kinematics.h>
#include <stdio.h>

enum { BINS = 10, WIDTH = 20 };

int main(int count, char **words)
{
    int histogram[BINS] = {0}, events = 0;
    Momentum one, other;
    FILE *in = count > 1 ? fopen(words[1], "r") : NULL;
    FILE *out = count > 2 ? fopen(words[2], "w") : NULL;
    if (!in || !out) {
        fprintf(stderr, "AnalysisPayload EVENTS HISTOGRAM\n");
        return 2;
    }
    while (fscanf(in, "%lf %lf %lf %lf %lf %lf %lf %lf", &one.e, &one.px, &one.py, &one.pz, &other.e, &other.px,
                  &other.py, &other.pz) == 8) {
        int bin = (int)(invariant_mass(one, other) / WIDTH);
        histogram[bin < BINS ? bin : BINS - 1]++;
        events++;
    }
    for (int bin = 0; bin < BINS; bin++)
        fprintf(out, "%3d %d\n", bin * WIDTH, histogram[bin]);
    printf("%d events\n", events);
    return fclose(out) != 0;
}
