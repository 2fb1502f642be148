// Package house holds the house rules as tests, and nothing else: who may import whom, what the product links, names of
// packages and metrics, commands that the documents print. A failure names the rule, where it is broken, and why the
// rule is there; a rule that has become wrong is changed here, in the open, with a page in docs/decisions.
package house
