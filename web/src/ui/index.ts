export * from "./button";
export * from "./dialog";
export * from "./field";
export * from "./menu";
export * from "./notice";
export * from "./spinner";
export * from "./toast";
