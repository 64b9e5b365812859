#include <stdio.h>

int main(void)
{
    puts("AnalysisBase-" RELEASE);
    return 0;
}
