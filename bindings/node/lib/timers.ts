/** @internal The longest time of a timer of Node, in milliseconds. */
export const LONGEST_TIMER = 2 ** 31 - 1;
