// The main program of a simulator whose model lies in a library.

int module_main(int argc, char **argv);

int main(int argc, char **argv) { return module_main(argc, argv); }
