// The state of a form for an idle policy: its fields, and what is wrong with them.
import { useState } from "react";
import { ApiError } from "@/api/client";
import { useWrong } from "@/ui";
import { fieldOf, fieldsOf, policyOf, type Fields, type Wrong } from "./form";
import type { Policy } from "./outlook";

export function usePolicyForm(initial: Policy) {
  const [fields, setFields] = useState<Fields>(() => fieldsOf(initial, Date.now()));
  const { form, wrong, say } = useWrong<keyof Wrong>();
  return {
    form,
    fields,
    setFields,
    wrong,
    /** Returns the policy; undefined: the form shows what is wrong. */
    read: (): Policy | undefined => {
      const read = policyOf(fields);
      say("wrong" in read ? read.wrong : {});
      return "policy" in read ? read.policy : undefined;
    },
    /** Shows a refusal beside its field. Returns whether it has one. */
    refused: (error: unknown): boolean => {
      const field = error instanceof ApiError ? fieldOf(error.field) : undefined;
      if (field) say({ [field]: (error as ApiError).detail });
      return field !== undefined;
    },
  };
}
