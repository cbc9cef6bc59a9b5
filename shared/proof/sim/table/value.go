package table

import (
	"bytes"
	"cmp"
	"fmt"
	"math/big"
	"strconv"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
)

// invalid is DynamoDB's refusal of a request that is malformed.
func invalid(format string, args ...any) error {
	return &smithy.GenericAPIError{Code: "ValidationException", Message: fmt.Sprintf(format, args...), Fault: smithy.FaultClient}
}

// typeOf is the name of a value's type; "" for those that this table does not hold.
func typeOf(v types.AttributeValue) string {
	switch v.(type) {
	case *types.AttributeValueMemberS:
		return "S"
	case *types.AttributeValueMemberN:
		return "N"
	case *types.AttributeValueMemberB:
		return "B"
	case *types.AttributeValueMemberBOOL:
		return "BOOL"
	default:
		return ""
	}
}

func known(v types.AttributeValue) error {
	if typeOf(v) == "" {
		return fmt.Errorf("this table holds no values of the type %T", v)
	}
	return nil
}

// compare orders two values of one type; those of two types, and booleans, are not comparable.
func compare(a, b types.AttributeValue) (order int, comparable bool, err error) {
	err = cmp.Or(known(a), known(b))
	if err != nil || typeOf(a) != typeOf(b) {
		return 0, false, err
	}
	switch a := a.(type) {
	case *types.AttributeValueMemberS:
		return cmp.Compare(a.Value, b.(*types.AttributeValueMemberS).Value), true, nil
	case *types.AttributeValueMemberB:
		return bytes.Compare(a.Value, b.(*types.AttributeValueMemberB).Value), true, nil
	case *types.AttributeValueMemberN:
		order, err := compareNumbers(a.Value, b.(*types.AttributeValueMemberN).Value)
		return order, err == nil, err
	default:
		return 0, false, nil
	}
}

func compareNumbers(a, b string) (int, error) {
	m, errA := strconv.ParseInt(a, 10, 64)
	n, errB := strconv.ParseInt(b, 10, 64)
	if errA == nil && errB == nil {
		return cmp.Compare(m, n), nil
	}
	x, okA := new(big.Rat).SetString(a)
	y, okB := new(big.Rat).SetString(b)
	if !okA || !okB {
		return 0, invalid("the parameter cannot be converted to a numeric value: %s", a)
	}
	return x.Cmp(y), nil
}

func same(a, b types.AttributeValue) (bool, error) {
	x, isFlag := a.(*types.AttributeValueMemberBOOL)
	y, isFlagToo := b.(*types.AttributeValueMemberBOOL)
	if isFlag && isFlagToo {
		return x.Value == y.Value, nil
	}
	order, comparable, err := compare(a, b)
	return comparable && order == 0, err
}

// sizeOf is the item's size as DynamoDB counts it, to a few bytes.
func sizeOf(item Item) int {
	size := 0
	for name, v := range item {
		size += len(name)
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			size += len(v.Value)
		case *types.AttributeValueMemberB:
			size += len(v.Value)
		case *types.AttributeValueMemberN:
			size += (utf8.RuneCountInString(v.Value)+1)/2 + 1
		default:
			size++
		}
	}
	return size
}
