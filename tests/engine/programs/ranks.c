#include <stdio.h>

/* Declared as in mpi.h of Open MPI, whose package would install a Fortran compiler. */
extern char ompi_mpi_comm_world, ompi_mpi_int, ompi_mpi_op_sum;
extern int MPI_Init(int *, char ***), MPI_Finalize(void);
extern int MPI_Comm_rank(void *, int *), MPI_Comm_size(void *, int *);
extern int MPI_Reduce(const void *, void *, int, void *, void *, int, void *);

int main(int argc, char **argv)
{
    int rank, size, sum;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(&ompi_mpi_comm_world, &rank);
    MPI_Comm_size(&ompi_mpi_comm_world, &size);
    MPI_Reduce(&size, &sum, 1, &ompi_mpi_int, &ompi_mpi_op_sum, 0, &ompi_mpi_comm_world);
    if (rank == 0)
        printf("%d ranks, sum %d\n", size, sum);
    MPI_Finalize();
    return 0;
}
