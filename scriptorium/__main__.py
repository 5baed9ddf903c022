from scriptorium.main import main

main()
