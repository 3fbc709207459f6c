package measure

// Measures is every figure that the recording has what it needs for, by key.
// Keys explains them. A figure is missing when something it needs was not
// recorded; none is ever not a number.
func Measures(r *Recording) map[string]float64 {
	out := make(map[string]float64)
	served(r, out)
	possible(r, out)
	counted(r, out)
	pressure(r, out)
	amplification(r, out)
	recovery(r, out)
	rise(r, out)
	scaling(r, out)
	cost(r, out)
	elasticity(r, out)
	skew(r, out)
	return out
}
