"""How a minimisation ended: codes that arrays hold, and what each says in words."""

RUNNING, CONVERGED, MAX_STEPS, NON_FINITE, NO_DATA = -1, 0, 1, 2, 3
TEXTS = {
    CONVERGED: "converged",
    MAX_STEPS: "step limit reached",
    NON_FINITE: "non-finite value",
    NO_DATA: "no data",
}
