package translate

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Reserve is room left to the lower cluster's own growth: an amount, or a share of what its nodes have to give.
type Reserve struct {
	Amount resource.Quantity
	Share  float64 // 0 to 1; the amount is zero then
}

// ParseReserve reads a quantity ("4", "16Gi") or a share ("10%").
func ParseReserve(text string) (Reserve, error) {
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		share, err := strconv.ParseFloat(percent, 64)
		if err != nil || !(share >= 0 && share <= 100) {
			return Reserve{}, fmt.Errorf("%q is no share between 0%% and 100%%", text)
		}
		return Reserve{Share: share / 100}, nil
	}
	amount, err := resource.ParseQuantity(text)
	if err != nil || amount.Sign() < 0 {
		return Reserve{}, fmt.Errorf("%q is neither a quantity such as 4 or 16Gi nor a share such as 10%%", text)
	}
	return Reserve{Amount: amount}, nil
}
