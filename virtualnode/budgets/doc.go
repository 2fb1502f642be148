// Package budgets makes the PodDisruptionBudgets of the upper cluster hold in a lower one: who drains lower nodes asks
// the lower API server, which knows nothing of the upper budgets.
//
// A budget demands that at least D of its pods are healthy (status.desiredHealthy). Its mirror below selects those of
// its pods that are on one virtual node, and demands D less the healthy ones that are elsewhere. Nothing in that number
// changes when a pod here is evicted, so however late the news of it comes up and back, the lower API server has counted
// it already and lets no second one go.
//
// It would go wrong where two virtual nodes let a pod go at the same moment, each counting on the pods of the other. So
// at any moment only one of them, whose turn it is, demands less than the pods it has. See turn.
package budgets
