import type { Credential } from "./rules";
import { nameOf } from "./words";

/**
 * Name is what a credential is called, in a sentence: as its user wrote it, whichever way its
 * letters run.
 */
export const Name = ({ of }: { of: Credential }) => <bdi translate={false}>{nameOf(of)}</bdi>;
