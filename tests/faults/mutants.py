MUTANTS=()
def survey(*a): return 0
