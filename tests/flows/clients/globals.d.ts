// The one thing of Node that the programs here use; its types would be a package of their own.
declare const process: { env: Record<string, string | undefined> };
