// Package objects makes nodes and pods from rows of numbers, and their encodings from templates: an object of each look is
// encoded once, and of every further one only names, times and addresses are written into a copy.
package objects
